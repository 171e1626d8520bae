//! What the kernel says of a process: its memory, its processor time, how often it woke up.

use std::fs;

use anyhow::{Context, Result};

/// Resident memory in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(number(&text, "VmRSS:")? * 1024)
}

/// How often its threads went to sleep by themselves, and so woke up.
pub(crate) fn wakeups(pid: u32) -> Result<u64> {
    let mut all = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("status"))?;
        all += number(&text, "voluntary_ctxt_switches:")?;
    }
    Ok(all)
}

/// Seconds of processor time, in user and kernel mode.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name, which may hold anything; after its last `)` come plain numbers.
    let rest = stat.rsplit_once(')').context("no name")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).context("too short")?.parse::<u64>().context("no number");
    // utime and stime, in ticks of 1/100 s on Linux.
    Ok((ticks(11)? + ticks(12)?) as f64 / 100.0)
}

fn number(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
