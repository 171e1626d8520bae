//! How many connections the system lets this process hold: each takes a file descriptor.

use std::fs;

/// Descriptors that are needed besides: the database, the ports, the log, the runtime, and a file that is being read.
const RESERVED: usize = 64;

/// As many connections as were wanted, or as many as there are descriptors for.
pub fn room_for(wanted: usize) -> usize {
    let Some(limit) = fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(open_files) else {
        return wanted;
    };
    let room = fitting(wanted, limit);
    if room < wanted {
        tracing::warn!(
            limit,
            "room for {room} connections at once instead of {wanted}: raise the limit of open files to {} \
             (systemd: LimitNOFILE=, shell: ulimit -n)",
            wanted + RESERVED
        );
    }
    room
}

fn fitting(wanted: usize, limit: usize) -> usize {
    wanted.min(limit.saturating_sub(RESERVED).max(1))
}

/// The soft limit in proc_pid_limits(5): `Max open files            1024                 524288               files`.
fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_connections_than_descriptors() {
        assert_eq!(fitting(18_000, 1024), 960);
        assert_eq!(fitting(18_000, 20_000), 18_000);
        assert_eq!(fitting(5, 1024), 5);
        assert_eq!(fitting(18_000, 10), 1);
    }

    #[test]
    fn the_limit_is_read_from_what_linux_says() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             7                    7                    processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files(limits), Some(1024));
        assert_eq!(open_files("Max open files            unlimited            unlimited            files"), None);
        assert_eq!(open_files(""), None);
        assert!(fs::read_to_string("/proc/self/limits").is_ok_and(|limits| limits.contains("Max open files")));
    }
}
