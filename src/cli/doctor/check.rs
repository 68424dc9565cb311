//! One line of the diagnosis.

use serde::Serialize;

use crate::cli::output::Row;

/// One line of the diagnosis.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    #[serde(rename = "check")]
    pub(crate) name: &'static str,
    pub(crate) state: State,
    pub(crate) detail: String,
    /// Empty where there is nothing to do.
    pub(crate) remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Ok,
    Warn,
    Fail,
}

impl Check {
    pub(crate) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: State::Ok, detail: detail.into(), remedy: String::new() }
    }

    pub(crate) fn warn(name: &'static str, detail: impl Into<String>, remedy: &str) -> Self {
        Self { name, state: State::Warn, detail: detail.into(), remedy: remedy.to_owned() }
    }

    pub(crate) fn fail(name: &'static str, detail: impl Into<String>, remedy: &str) -> Self {
        Self { name, state: State::Fail, detail: detail.into(), remedy: remedy.to_owned() }
    }
}

impl Row for Check {
    const HEADERS: &'static [&'static str] = &["CHECK", "STATE", "DETAIL", "REMEDY"];

    fn cells(&self) -> Vec<String> {
        let state = match self.state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "FAIL",
        };
        vec![self.name.into(), state.into(), self.detail.clone(), self.remedy.clone()]
    }
}
