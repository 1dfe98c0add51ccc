//! How many files and connections the process may have open, and how many of them connections may be.
//!
//! Many systems give a process 1,024 until it asks for more. Were connections to take them all, no segment could be begun
//! and no broker reached, and whoever can reach the port could bring that about. So the limit is raised as far as the
//! system lets us, and neither port has more connections open than fit beside what the rest needs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// What is kept for segments and files of ids, their readers, destinations and lookups.
const RESERVE: u64 = 256;
/// The admin port's part of the rest: whoever looks after the program gets in while the hooks' port is full.
const ADMIN_PART: u64 = 8;

/// How many connections may be open at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionsMax {
    /// On the hooks' port.
    pub hooks: usize,
    /// On the admin port.
    pub admin: usize,
}

impl ConnectionsMax {
    /// Raises the limit of open files, and divides it.
    #[must_use]
    pub fn raise() -> Self {
        Self::of(raise())
    }

    /// Of a limit that is small itself, half is kept.
    fn of(limit: Option<u64>) -> Self {
        let Some(limit) = limit else { return Self { hooks: usize::MAX, admin: usize::MAX } };
        let free = limit - RESERVE.min(limit / 2);
        let admin = free / ADMIN_PART;
        let count = |connections| usize::try_from(connections).unwrap_or(usize::MAX).max(1);
        Self { hooks: count(free - admin), admin: count(admin) }
    }
}

/// Raises the limit as far as may be; gives what is in force then, `None` where there is none.
fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            warn!(%error, ?current, ?maximum, "cannot raise the limit of open files");
            current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ConnectionsMax, raise};

    #[test]
    fn both_ports_and_the_reserve_fit_the_limit() {
        for (limit, hooks, admin) in [
            (None, usize::MAX, usize::MAX),
            (Some(65_536), 57_120, 8_160),
            (Some(1_024), 672, 96),
            (Some(512), 224, 32),
            (Some(256), 112, 16),
            (Some(2), 1, 1),
            (Some(0), 1, 1),
        ] {
            assert_eq!(ConnectionsMax::of(limit), ConnectionsMax { hooks, admin }, "{limit:?}");
        }
    }

    #[test]
    fn the_limit_is_raised_to_what_the_system_allows() {
        let raised = raise();
        let text = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let columns: Vec<_> = line.split_whitespace().skip(3).take(2).map(|column| column.parse().ok()).collect();
        assert_eq!(columns, [raised, raised]);
    }
}
