//! What the worker takes in the worst case, beside its budget and the limit of its control group.

use std::fs;
use std::path::Path;

use crate::cli::doctor::check::Check;
use crate::config::Config;
use crate::config::memory::worst_case_bytes;

const GROUPS: &str = "/sys/fs/cgroup";

/// The limit is that of the process which asks: it is the worker's if `doctor` runs beside it, in the
/// same container or unit.
pub(super) fn check(config: &Config) -> Check {
    judge(config, limit_bytes(Path::new(GROUPS), &own_group()))
}

fn judge(config: &Config, limit: Option<usize>) -> Check {
    let worst = worst_case_bytes(config);
    let budget = config.memory_budget_bytes;
    let beside = limit.map_or_else(
        || "no limit is set on its control group".to_owned(),
        |limit| format!("the limit of its control group is {} MiB", mib(limit)),
    );
    let detail = format!(
        "at most {} MiB, if every command has 1 MiB: {} lanes, prefetch {}; memory_budget_bytes is {} MiB, {beside}; \
         larger bodies are cut when they have arrived, so let the broker refuse what is above 4 MiB (max_message_size)",
        mib(worst),
        config.lanes.len(),
        config.prefetch,
        mib(budget),
    );
    if limit.is_some_and(|limit| worst > limit) {
        let remedy = "lower memory_budget_bytes, for all workers alike, or raise the limit";
        Check::warn("memory", detail, remedy)
    } else if worst > budget {
        let remedy = "leave prefetch unset, for all workers alike, or raise memory_budget_bytes";
        Check::warn("memory", detail, remedy)
    } else {
        Check::ok("memory", detail)
    }
}

const fn mib(bytes: usize) -> usize {
    bytes.div_ceil(1 << 20)
}

/// The path of this process's control group (version 2), as the kernel gives it.
fn own_group() -> String {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned()
}

/// The least limit of the group and of those around it.
fn limit_bytes(root: &Path, group: &str) -> Option<usize> {
    let group = root.join(group.trim_start_matches('/'));
    let around = group.ancestors().take_while(|folder| folder.starts_with(root));
    around
        .filter_map(|folder| fs::read_to_string(folder.join("memory.max")).ok())
        // `max` is no number, and no limit.
        .filter_map(|text| text.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::check::State;

    fn config(environment: &[(&str, &str)]) -> Config {
        let environment = environment.iter();
        let environment = environment
            .map(|(name, value)| (format!("PARTNER_PROGRAM_{name}"), (*value).to_owned()));
        Config::load(None, environment).unwrap()
    }

    #[test]
    fn what_exceeds_the_budget_or_the_limit_is_warned_of() {
        let derived = config(&[]);
        assert_eq!(judge(&derived, None).state, State::Ok);
        assert_eq!(judge(&derived, Some(2 << 30)).state, State::Ok);
        let tight = judge(&derived, Some(256 << 20));
        assert_eq!(tight.state, State::Warn);
        assert!(tight.detail.contains("group is 256 MiB"), "{}", tight.detail);
        let set = judge(&config(&[("PREFETCH", "1999")]), None);
        assert_eq!(set.state, State::Warn);
        assert!(set.detail.contains("prefetch 1999"), "{}", set.detail);
        let lanes = (0..30).map(|n| format!("l{n}=o{n}.*")).collect::<Vec<_>>().join(";");
        assert_eq!(judge(&config(&[("LANES", &lanes)]), None).state, State::Warn);
    }

    #[test]
    fn the_limit_is_the_least_of_the_group_and_those_around_it() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("outer/inner");
        fs::create_dir_all(&inner).unwrap();
        assert_eq!(limit_bytes(root.path(), "/outer/inner"), None);
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        assert_eq!(limit_bytes(root.path(), "/outer/inner"), None);
        fs::write(root.path().join("outer/memory.max"), "7000\n").unwrap();
        assert_eq!(limit_bytes(root.path(), "/outer/inner"), Some(7000));
        fs::write(inner.join("memory.max"), "5000\n").unwrap();
        assert_eq!(limit_bytes(root.path(), "/outer/inner"), Some(5000));
        assert_eq!(limit_bytes(root.path(), "/"), None);
    }
}
