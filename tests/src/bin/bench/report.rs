//! The figures as Markdown: on the screen, and in docs/performance.md between two marks.
#![expect(clippy::print_stdout, reason = "the table is what the program is asked for")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use linkspan_tests::netns::run;

const BEGIN: &str = "<!-- figures: written by `make bench BENCH=--write` -->";
const END: &str = "<!-- end of figures -->";

/// What was measured so far.
pub(crate) struct Report {
    text: String,
    heading: String,
}

/// One figure with its ratio.
pub(crate) struct Cell(pub(crate) String);

/// A table that is being filled.
pub(crate) struct Table<'a> {
    report: &'a mut Report,
    text: String,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { text: String::new(), heading: String::new() }
    }

    /// Begins a table with one column for each way.
    pub(crate) fn table(&mut self, title: &str, columns: &[&str]) -> Table<'_> {
        let mut text = format!("\n**{title}**\n\n| |");
        for column in columns {
            let _ = write!(text, " {column} |");
        }
        text += "\n|---|";
        text += &"---|".repeat(columns.len());
        text.push('\n');
        Table { report: self, text }
    }

    /// Adds a single figure.
    pub(crate) fn line(&mut self, heading: &str, text: String) {
        if self.heading != heading {
            let _ = write!(self.text, "\n**{heading}**\n\n");
            heading.clone_into(&mut self.heading);
        }
        eprintln!("bench: {text}");
        let _ = writeln!(self.text, "- {text}");
    }

    pub(crate) fn print(&self) -> Result<()> {
        println!("{}\n{}", conditions()?, self.text);
        Ok(())
    }

    /// Replaces what stands between the two marks of a file, or adds both at its end.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let old = fs::read_to_string(path).unwrap_or_else(|_| "# Performance\n".to_owned());
        let section = format!("{BEGIN}\n{}\n{}\n{END}", conditions()?, self.text);
        let new = match (old.find(BEGIN), old.find(END)) {
            (Some(begin), Some(end)) => {
                ensure!(begin < end, "{}: the marks are in the wrong order", path.display());
                format!("{}{section}{}", &old[..begin], &old[end + END.len()..])
            }
            _ => format!("{}\n{section}\n", old.trim_end()),
        };
        fs::write(path, new).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Table<'_> {
    pub(crate) fn row(&mut self, name: String, cells: Vec<Cell>) {
        let mut line = format!("| {name} |");
        for Cell(text) in cells {
            let _ = write!(line, " {text} |");
        }
        eprintln!("bench: {line}");
        self.text += &line;
        self.text.push('\n');
    }

    pub(crate) fn finish(self) {
        self.report.heading.clear();
        self.report.text += &self.text;
    }
}

/// A time in milliseconds, as figures show it.
pub(crate) fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    if milliseconds < 10.0 { format!("{milliseconds:.1}") } else { format!("{milliseconds:.0}") }
}

/// The time below which so many of a hundred lie; zero of none. Sorts them.
pub(crate) fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(place).copied().unwrap_or_default()
}

/// Command, date and machine.
fn conditions() -> Result<String> {
    let say = |words: &[&str]| run(Command::new(words[0]).args(&words[1..])).map(|text| text.trim().to_owned());
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("unknown", |m| m.1);
    let control = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?;
    Ok(format!(
        "`make bench` of {} on {}: {} processors ({model}), Linux {}, congestion control {}; visitors, server, gateway and \
         device share the machine. Visitors come over HTTPS to linkspan and over plain HTTP to rathole, which ends no TLS \
         for them; the tunnel is TLS in both. {}.",
        say(&["git", "rev-parse", "--short", "HEAD"]).unwrap_or_else(|_| "an unknown commit".into()),
        say(&["date", "-u", "+%Y-%m-%d"])?,
        std::thread::available_parallelism()?,
        say(&["uname", "-r"])?,
        control.trim(),
        say(&["rustc", "--version"]).unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_those_that_were_measured() {
        let mut times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut times, 50), Duration::from_millis(100));
        assert_eq!(percentile(&mut times, 99), Duration::from_millis(198));
        assert_eq!(percentile(&mut times, 100), Duration::from_millis(200));
        assert_eq!(percentile(&mut [], 50), Duration::ZERO);
    }
}
