//! The command line: from words to an [`Action`], and the texts that explain it.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser};

use crate::config::DEFAULT_FILE;
use crate::nearest::nearest;

/// What the words ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the gateway of this configuration.
    Run(PathBuf),
    /// Check this configuration.
    Check(PathBuf),
    /// Tell how the gateway of this configuration is.
    Status {
        /// The configuration.
        config: PathBuf,
        /// As JSON.
        json: bool,
    },
    /// Print this text.
    Print(&'static str),
}

/// Words that ask for nothing that is known. It prints as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Usage(String);

/// Name and version, on a line.
pub const VERSION: &str = concat!("linkspan-gateway ", env!("CARGO_PKG_VERSION"), "\n");

const HELP: &str = include_str!("help/main.txt");
const COMMANDS: [&str; 5] = ["run", "check", "status", "completion", "help"];
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// Understands the words after the program's name.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Action, Usage> {
    let words = Words::read(words)?;
    if words.version {
        return Ok(Action::Print(VERSION));
    }
    let command = words.values.first().map_or("", String::as_str);
    if words.help || (command == "help" && words.values.len() == 1) {
        return Ok(Action::Print(help(command)));
    }
    let config = words.config.clone().unwrap_or_else(|| DEFAULT_FILE.into());
    let json = words.json;
    if json && !matches!(command, "status" | "discover") {
        return Err(Usage("the option --json belongs to `status`".to_owned()));
    }
    let action = match command {
        "run" => Action::Run(config),
        "check" => Action::Check(config),
        "status" => Action::Status { config, json },
        "completion" => Action::Print(completion(words.values.get(1))?),
        "help" => Action::Print(help_topic(words.values.get(1))?),
        "discover" | "enroll" => return Err(later(command)),
        "" => return Err(Usage(format!("a command is missing: {}", COMMANDS.join(", ")))),
        unknown => return Err(Usage(format!("unknown command `{unknown}`{}", hint(unknown, &COMMANDS)))),
    };
    let takes = if matches!(command, "completion" | "help") { 2 } else { 1 };
    match words.values.get(takes) {
        Some(extra) => Err(Usage(format!("`{command}` does not take `{extra}`"))),
        None => Ok(action),
    }
}

#[derive(Default)]
struct Words {
    values: Vec<String>,
    config: Option<PathBuf>,
    json: bool,
    help: bool,
    version: bool,
}

impl Words {
    fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, Usage> {
        const OPTIONS: [&str; 4] = ["--config", "--json", "--help", "--version"];
        let said = |e: lexopt::Error| Usage(e.to_string());
        let mut read = Self::default();
        let mut parser = Parser::from_args(words);
        while let Some(word) = parser.next().map_err(said)? {
            match word {
                Arg::Long("config") | Arg::Short('c') => read.config = Some(parser.value().map_err(said)?.into()),
                Arg::Long("json") => read.json = true,
                Arg::Long("help") | Arg::Short('h') => read.help = true,
                Arg::Long("version") | Arg::Short('V') => read.version = true,
                Arg::Value(value) => read.values.push(value.to_string_lossy().into_owned()),
                Arg::Long(unknown) => {
                    let unknown = format!("--{unknown}");
                    return Err(Usage(format!("unknown option `{unknown}`{}", hint(&unknown, &OPTIONS))));
                }
                Arg::Short(unknown) => return Err(Usage(format!("unknown option `-{unknown}`"))),
            }
        }
        Ok(read)
    }
}

fn help(command: &str) -> &'static str {
    match command {
        "run" => include_str!("help/run.txt"),
        "check" => include_str!("help/check.txt"),
        "status" => include_str!("help/status.txt"),
        "completion" => include_str!("help/completion.txt"),
        _ => HELP,
    }
}

fn help_topic(topic: Option<&String>) -> Result<&'static str, Usage> {
    match topic.map(String::as_str) {
        Some(topic) if COMMANDS.contains(&topic) => Ok(help(topic)),
        Some("discover" | "enroll") => Err(later(topic.map_or("", String::as_str))),
        Some(unknown) => Err(Usage(format!("unknown command `{unknown}`{}", hint(unknown, &COMMANDS)))),
        None => Ok(HELP),
    }
}

fn completion(shell: Option<&String>) -> Result<&'static str, Usage> {
    match shell.map(String::as_str) {
        Some("bash") => Ok(include_str!("completion/bash")),
        Some("zsh") => Ok(include_str!("completion/zsh")),
        Some("fish") => Ok(include_str!("completion/fish")),
        Some(unknown) => Err(Usage(format!("unknown shell `{unknown}`: bash, zsh or fish{}", hint(unknown, &SHELLS)))),
        None => Err(Usage("a shell is missing: bash, zsh or fish".to_owned())),
    }
}

fn later(command: &str) -> Usage {
    let instead = match command {
        "enroll" => "write [identity] secret_file, with the secret that `linkspan-server gateway add --secret` printed",
        _ => "list devices as [[device]] in the configuration",
    };
    Usage(format!("`{command}` is not part of this version yet; {instead}"))
}

fn hint(word: &str, known: &[&'static str]) -> String {
    nearest(word, known.iter().copied()).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Action, String> {
        super::parse(line.split_whitespace().map(Into::into)).map_err(|usage| usage.to_string())
    }

    #[test]
    fn words_are_understood_in_any_usual_order() {
        assert_eq!(parse("run"), Ok(Action::Run(DEFAULT_FILE.into())));
        for line in ["run --config x", "run -c x", "-c x run", "run --config=x", "run -cx"] {
            assert_eq!(parse(line), Ok(Action::Run("x".into())), "{line}");
        }
        assert_eq!(parse("check"), Ok(Action::Check(DEFAULT_FILE.into())));
        assert_eq!(parse("status --json"), Ok(Action::Status { config: DEFAULT_FILE.into(), json: true }));
        assert_eq!(parse("-V"), Ok(Action::Print(VERSION)));
    }

    #[test]
    fn each_command_has_its_page() {
        for command in ["run", "check", "status", "completion"] {
            let Ok(Action::Print(page)) = parse(&format!("{command} --help")) else { panic!("{command}") };
            assert!(page.starts_with(&format!("linkspan-gateway {command}: ")), "{page}");
            assert_eq!(parse(&format!("help {command}")), Ok(Action::Print(page)));
            assert!(HELP.contains(&format!("\n    {command}")), "{command}");
        }
        assert_eq!(parse("--help"), Ok(Action::Print(HELP)));
        assert_eq!(parse("help"), Ok(Action::Print(HELP)));
    }

    #[test]
    fn slips_are_answered_with_the_nearest_word() {
        let told = |line: &str| parse(line).unwrap_err();
        assert_eq!(told("runn"), "unknown command `runn`; did you mean `run`?");
        assert_eq!(told("run --confg x"), "unknown option `--confg`; did you mean `--config`?");
        assert_eq!(told("run -x"), "unknown option `-x`");
        assert_eq!(told("run x"), "`run` does not take `x`");
        assert_eq!(told("run --json"), "the option --json belongs to `status`");
        assert_eq!(told("completion"), "a shell is missing: bash, zsh or fish");
        assert_eq!(told("completion fihs"), "unknown shell `fihs`: bash, zsh or fish; did you mean `fish`?");
        assert!(told("run --config").contains("--config"));
        assert!(told("").starts_with("a command is missing"));
        assert!(told("enroll https://a CODE").contains("`enroll` is not part of this version yet"));
        assert!(told("discover --json").contains("`discover` is not part of this version yet"));
    }
}
