//! What a gateway should live by: the document of its template with its values, its own part laid over it, read with the
//! gateway's own parser (pure).

use std::path::PathBuf;

use linkspan_config::{Problem, Problems, Severity, central, place};
use linkspan_protocol::id::{DeviceName, GatewayName};

use super::merge::merged;
use super::places::{Origin, Origins};
use super::text::{Fault, Values, filled};

/// What a gateway's document is made of.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    /// The template's name.
    pub(super) template: String,
    /// Its document.
    pub(super) document: String,
    /// The gateway.
    pub(super) gateway: GatewayName,
    /// Its values, and those that the server gives.
    pub(super) values: Values,
    /// What it says for itself.
    pub(super) overrides: String,
}

/// What a gateway should live by.
#[derive(Clone, Debug)]
pub(super) struct Desired {
    pub(super) document: String,
    pub(super) warnings: Vec<Problem>,
    pub(super) devices: Vec<DeviceName>,
}

impl Parts {
    /// The document; or all that is wrong, each with its place in the template or in the gateway's own part.
    pub(super) fn desired(&self) -> Result<Desired, Problems> {
        let base = self.filled(Origin::Template, &self.document);
        let over = self.filled(Origin::Overrides, &self.overrides);
        let (base, over) = match (base, over) {
            (Ok(base), Ok(over)) => (base, over),
            (base, over) => {
                let wrong = [base.err(), over.err()].into_iter().flatten().flatten().collect();
                return Err(Problems(wrong));
            }
        };
        let document = merged(&base, &over)
            .map_err(|fault| Problems(vec![self.problem(Origin::Overrides, &self.overrides, fault)]))?;
        let origins = Origins { template: (&self.document, &base), overrides: (&self.overrides, &over) };
        let placed = |problem: Problem| self.placed(&origins, &document, problem);
        match central::check(&document) {
            Ok(read) => {
                let warnings = read.warnings.into_iter().map(placed).collect();
                let devices = read.devices.into_iter().map(|device| device.name).collect();
                Ok(Desired { warnings, devices, document })
            }
            Err(Problems(problems)) => Err(Problems(problems.into_iter().map(placed).collect())),
        }
    }

    fn filled(&self, origin: Origin, text: &str) -> Result<String, Vec<Problem>> {
        let faults = match filled(text, self.gateway.as_str(), &self.values) {
            Ok(filled) => return Ok(filled),
            Err(faults) => faults,
        };
        Err(faults.into_iter().map(|fault| self.problem(origin, text, fault)).collect())
    }

    fn problem(&self, origin: Origin, text: &str, fault: Fault) -> Problem {
        let Fault { offset, what, instead } = fault;
        let place = Some(place(text, offset));
        Problem { severity: Severity::Error, file: self.name(origin), place, what, instead }
    }

    /// The problem at the place where what is wrong was written.
    fn placed(&self, origins: &Origins<'_>, document: &str, problem: Problem) -> Problem {
        let found = problem.place.and_then(|(line, column)| origins.of(document, line, column));
        let Some((origin, offset)) = found else {
            return Problem { file: self.name(Origin::Template), place: None, ..problem };
        };
        let text = if origin == Origin::Template { &self.document } else { &self.overrides };
        Problem { file: self.name(origin), place: Some(place(text, offset)), ..problem }
    }

    fn name(&self, origin: Origin) -> PathBuf {
        match origin {
            Origin::Template => format!("template {} for {}", self.template, self.gateway),
            Origin::Overrides => format!("overrides of {}", self.gateway),
        }
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::Value;
    use super::*;

    fn parts(document: &str, overrides: &str) -> Parts {
        let values = [("gateway.name", "site12"), ("plc.host", "10.0.0.1")];
        Parts {
            template: "pumps".into(),
            document: document.into(),
            gateway: "site12".parse().unwrap(),
            values: values.iter().map(|(name, text)| ((*name).into(), Value::Text((*text).into()))).collect(),
            overrides: overrides.into(),
        }
    }

    #[test]
    fn template_values_and_overrides_make_one_document() {
        let document =
            "[log]\nlevel = \"info\"\n[[device]]\nname = \"plc-{{ gateway.name }}\"\nhost = \"{{ plc.host }}\"\n";
        let desired = parts(document, "log.level = \"debug\"\n").desired().unwrap();
        assert_eq!(
            desired.document,
            "[log]\nlevel = \"debug\"\n[[device]]\nname = \"plc-site12\"\nhost = \"10.0.0.1\"\n"
        );
        assert_eq!(desired.devices, ["plc-site12".parse().unwrap()]);
    }

    #[test]
    fn each_problem_names_template_gateway_line_and_column() {
        let document = "[log]\nlevel = \"loud\"\n\n[[device]]\nname = \"a-{{ gateway.name }}\"\nhost = \"x y\"\n";
        let overrides = "# own\n[limits]\nmax_streams = \"{{ gateway.name }}\"\n";
        let told = parts(document, overrides).desired().unwrap_err().to_string();
        assert!(told.contains("template pumps for site12:2:9: this is not a log level"), "{told}");
        assert!(told.contains("template pumps for site12:6:8: "), "{told}");
        assert!(told.contains("overrides of site12:3:15: `max_streams` is of the wrong type"), "{told}");
        let told = parts("x = \"{{ nope }}\"", "y = \"{{ nope }}\"").desired().unwrap_err().to_string();
        assert!(told.contains("template pumps for site12:1:6: site12 has no value for `nope`"), "{told}");
        assert!(told.contains("overrides of site12:1:6: "), "{told}");
        let told = parts("", "without = [\"cam\"]").desired().unwrap_err().to_string();
        assert!(told.starts_with("overrides of site12:1:1: the template has no [[device]] `cam`"), "{told}");
    }
}
