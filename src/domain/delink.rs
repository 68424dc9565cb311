//! Delink: a customer leaves a program, open or not (`docs/contract.md#delink`,
//! `docs/contract.md#effects-by-state`).

use crate::domain::command::{DelinkItem, stored_text};
use crate::domain::enrolment::{EffectKind, Enrolment};
use crate::domain::evaluate::{Decision, Item, Standing};
use crate::domain::status::{Checked, Status};

impl Item for DelinkItem {
    const NEEDS_OPEN_PROGRAM: bool = false;

    fn program_name(&self) -> Option<&String> {
        self.program_name.as_ref()
    }

    fn decide(&self, standing: &Standing<'_>) -> Checked<Decision> {
        let enrolment = standing.linked().ok_or(Status::NotLinked)?;
        let after =
            Enrolment { linked: false, version: standing.next_version(), ..enrolment.clone() };
        let reason = stored_text(self.reason.as_ref())?.map(ToOwned::to_owned);
        Ok(Decision { kind: EffectKind::Delink, after, reason, warning: None })
    }
}
