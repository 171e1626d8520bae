//! The command line: from words to an [`Action`], and the texts that explain it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser};
use linkspan_protocol::id::Secret;

use crate::config::default_file;
use crate::config::nearest::nearest;
use crate::enrol::Order;

/// What the words ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the gateway of this configuration.
    Run {
        /// The configuration.
        config: PathBuf,
        /// One that cannot be used is waited for.
        stay: bool,
    },
    /// Check this configuration.
    Check(PathBuf),
    /// Tell how the gateway of this configuration is.
    Status {
        /// The configuration.
        config: PathBuf,
        /// As JSON.
        json: bool,
    },
    /// Tell what is on the LAN.
    Discover {
        /// The configuration.
        config: PathBuf,
        /// As JSON.
        json: bool,
        /// For so long it is looked.
        wait: Duration,
        /// Then these are looked at from close by.
        identify: Vec<String>,
    },
    /// Make this router a gateway; a code of `-` is to be read from standard input.
    Enroll(Box<Order>),
    /// Print this text.
    Print(&'static str),
}

/// Words that ask for nothing that is known. It prints as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Usage(String);

/// Name and version, on a line.
pub const VERSION: &str = concat!("linkspan-gateway ", env!("CARGO_PKG_VERSION"), "\n");

/// For so long `discover` looks: devices answer within a second or two, and what they leave out is asked for.
const LOOK: Duration = Duration::from_secs(6);
const HELP: &str = include_str!("help/main.txt");
const COMMANDS: [&str; 7] = ["run", "check", "status", "discover", "enroll", "completion", "help"];
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
    let config = words.config.clone().unwrap_or_else(|| default_file().to_owned());
    let json = words.json;
    if json && !matches!(command, "status" | "discover") {
        return Err(Usage("the option --json belongs to `status` and `discover`".to_owned()));
    }
    if (words.wait.is_some() || !words.identify.is_empty()) && command != "discover" {
        let option = if words.wait.is_some() { "--wait" } else { "--identify" };
        return Err(Usage(format!("the option {option} belongs to `discover`")));
    }
    if words.stay && command != "run" {
        return Err(Usage("the option --stay belongs to `run`".to_owned()));
    }
    if let Some(option) = words.enroll_option().filter(|_| command != "enroll") {
        return Err(Usage(format!("the option {option} belongs to `enroll`")));
    }
    let action = match command {
        "enroll" => Action::Enroll(Box::new(words.order(config)?)),
        "run" => Action::Run { config, stay: words.stay },
        "check" => Action::Check(config),
        "status" => Action::Status { config, json },
        "completion" => Action::Print(completion(words.values.get(1))?),
        "help" => Action::Print(help_topic(words.values.get(1))?),
        "discover" => {
            let (wait, identify) = (words.wait.unwrap_or(LOOK), words.identify.clone());
            Action::Discover { config, json, wait, identify }
        }
        "" => return Err(Usage(format!("a command is missing: {}", COMMANDS.join(", ")))),
        unknown => return Err(Usage(format!("unknown command `{unknown}`{}", hint(unknown, &COMMANDS)))),
    };
    let takes = match command {
        "completion" | "help" => 2,
        "enroll" => 3,
        _ => 1,
    };
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
    stay: bool,
    help: bool,
    version: bool,
    name: Option<String>,
    ca_file: Option<PathBuf>,
    fingerprint: Option<String>,
    proxy: Option<String>,
    force: bool,
    wait: Option<Duration>,
    identify: Vec<String>,
}

impl Words {
    fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, Usage> {
        const OPTIONS: [&str; 12] = [
            "--config",
            "--json",
            "--help",
            "--version",
            "--name",
            "--ca-file",
            "--fingerprint",
            "--proxy",
            "--force",
            "--wait",
            "--identify",
            "--stay",
        ];
        let text = |value: OsString| value.to_string_lossy().into_owned();
        let said = |e: lexopt::Error| Usage(e.to_string());
        let mut read = Self::default();
        let mut parser = Parser::from_args(words);
        while let Some(word) = parser.next().map_err(said)? {
            match word {
                Arg::Long("config") | Arg::Short('c') => read.config = Some(parser.value().map_err(said)?.into()),
                Arg::Long("name") => read.name = Some(text(parser.value().map_err(said)?)),
                Arg::Long("ca-file") => read.ca_file = Some(parser.value().map_err(said)?.into()),
                Arg::Long("fingerprint") => read.fingerprint = Some(text(parser.value().map_err(said)?)),
                Arg::Long("proxy") => read.proxy = Some(text(parser.value().map_err(said)?)),
                Arg::Long("identify") => read.identify.push(text(parser.value().map_err(said)?)),
                Arg::Long("wait") => read.wait = Some(seconds(&text(parser.value().map_err(said)?))?),
                Arg::Long("force") => read.force = true,
                Arg::Long("json") => read.json = true,
                Arg::Long("stay") => read.stay = true,
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

    /// An option that was given and means something to `enroll` alone.
    fn enroll_option(&self) -> Option<&'static str> {
        let given = [
            (self.name.is_some(), "--name"),
            (self.ca_file.is_some(), "--ca-file"),
            (self.fingerprint.is_some(), "--fingerprint"),
            (self.proxy.is_some(), "--proxy"),
            (self.force, "--force"),
        ];
        given.into_iter().find_map(|(given, option)| given.then_some(option))
    }

    fn order(&self, config: PathBuf) -> Result<Order, Usage> {
        let missing = |what| Usage(format!("{what} is missing: `linkspan-gateway enroll URL CODE`"));
        let url = self.values.get(1).ok_or_else(|| missing("the server's url"))?;
        let code = self.values.get(2).ok_or_else(|| missing("a claim code, or a provisioning key"))?;
        let name = self.name.as_deref().map(|name| name.parse().map_err(|e| Usage(format!("--name: {e}")))).transpose();
        Ok(Order {
            url: url.clone(),
            code: Secret::new(code.as_str()),
            config,
            name: name?,
            ca_file: self.ca_file.clone(),
            fingerprint: self.fingerprint.clone(),
            proxy: self.proxy.as_deref().map(Secret::new),
            force: self.force,
        })
    }
}

fn help(command: &str) -> &'static str {
    match command {
        "run" => include_str!("help/run.txt"),
        "check" => include_str!("help/check.txt"),
        "status" => include_str!("help/status.txt"),
        "discover" => include_str!("help/discover.txt"),
        "enroll" => include_str!("help/enroll.txt"),
        "completion" => include_str!("help/completion.txt"),
        _ => HELP,
    }
}

fn help_topic(topic: Option<&String>) -> Result<&'static str, Usage> {
    match topic.map(String::as_str) {
        Some(topic) if COMMANDS.contains(&topic) => Ok(help(topic)),
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

fn seconds(text: &str) -> Result<Duration, Usage> {
    let seconds = text.parse().ok().filter(|seconds| (1..=600).contains(seconds));
    let wrong = || Usage(format!("--wait {text}: write a number of seconds from 1 to 600"));
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

fn hint(word: &str, known: &[&'static str]) -> String {
    nearest(word, known.iter().copied()).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DEFAULT_FILE;

    fn parse(line: &str) -> Result<Action, String> {
        super::parse(line.split_whitespace().map(Into::into)).map_err(|usage| usage.to_string())
    }

    #[test]
    fn words_are_understood_in_any_usual_order() {
        assert_eq!(parse("run"), Ok(Action::Run { config: DEFAULT_FILE.into(), stay: false }));
        for line in ["run --config x", "run -c x", "-c x run", "run --config=x", "run -cx"] {
            assert_eq!(parse(line), Ok(Action::Run { config: "x".into(), stay: false }), "{line}");
        }
        assert_eq!(parse("check"), Ok(Action::Check(DEFAULT_FILE.into())));
        assert_eq!(parse("status --json"), Ok(Action::Status { config: DEFAULT_FILE.into(), json: true }));
        let wait = Duration::from_secs(2);
        let identify = vec!["10.0.0.1".to_owned(), "10.0.0.2".to_owned()];
        assert_eq!(
            parse("discover --wait 2 -c x --identify 10.0.0.1 --identify 10.0.0.2"),
            Ok(Action::Discover { config: "x".into(), json: false, wait, identify })
        );
        assert_eq!(parse("run --stay -c x"), Ok(Action::Run { config: "x".into(), stay: true }));
        assert_eq!(parse("-V"), Ok(Action::Print(VERSION)));
    }

    #[test]
    fn an_order_to_enrol_is_understood() {
        let line = "enroll https://a.example CODE -c x --name gw-1 --ca-file ca.pem --proxy http://p:1 --force";
        let Ok(Action::Enroll(order)) = parse(line) else { panic!("{:?}", parse(line)) };
        assert_eq!((order.url.as_str(), order.code.expose(), order.force), ("https://a.example", "CODE", true));
        assert_eq!((order.config, order.ca_file), ("x".into(), Some("ca.pem".into())));
        assert_eq!(order.name, Some("gw-1".parse().unwrap()));
        assert!(matches!(parse("enroll https://a.example -"), Ok(Action::Enroll(order)) if order.code.expose() == "-"));
    }

    #[test]
    fn each_command_has_its_page() {
        for command in ["run", "check", "status", "discover", "enroll", "completion"] {
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
        assert_eq!(told("run --json"), "the option --json belongs to `status` and `discover`");
        assert_eq!(told("check --stay"), "the option --stay belongs to `run`");
        assert_eq!(told("completion"), "a shell is missing: bash, zsh or fish");
        assert_eq!(told("completion fihs"), "unknown shell `fihs`: bash, zsh or fish; did you mean `fish`?");
        assert!(told("run --config").contains("--config"));
        assert!(told("").starts_with("a command is missing"));
        assert_eq!(told("run --force"), "the option --force belongs to `enroll`");
        assert!(told("enroll").starts_with("the server's url is missing"));
        assert!(told("enroll https://a").starts_with("a claim code, or a provisioning key is missing"));
        assert!(told("enroll https://a CODE --name Site12").contains("lower case"));
        assert_eq!(told("run --identify x"), "the option --identify belongs to `discover`");
        assert_eq!(told("run --wait 5"), "the option --wait belongs to `discover`");
        assert_eq!(told("discover --wait 0"), "--wait 0: write a number of seconds from 1 to 600");
    }
}
