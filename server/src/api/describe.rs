//! `/api/v1/openapi.json`: made from the handlers' own descriptions, with what is the same for all routes added (pure).

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::problem::PROBLEM_JSON;
use super::{Kind, Needs, Problem};
use crate::access::CONSOLE_COOKIE;

const ABOUT: &str = "Everything the server can do. Lists come in pages: hand `next` back as `cursor`. Errors are \
     application/problem+json; `code` tells their kinds apart, `/api/v1/problems` lists them. See docs/api.md.";

/// One method of one path, as its handler describes it.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) path: String,
    method: String,
    pub(super) needs: Needs,
    value: Value,
}

impl Operation {
    /// Those that `routes!` has gathered.
    pub(super) fn all_of(paths: Value, needs: Needs) -> Vec<Self> {
        let Value::Object(paths) = paths else { return Vec::new() };
        let mut all = Vec::new();
        for (path, methods) in paths {
            let Value::Object(methods) = methods else { continue };
            let one = |(method, value)| Self { path: path.clone(), method, needs, value };
            all.extend(methods.into_iter().map(one));
        }
        all
    }

    /// One that is described by hand.
    pub(super) fn new(path: &str, method: &str, needs: Needs, value: Value) -> Self {
        Self { path: path.to_owned(), method: method.to_owned(), needs, value }
    }

    /// One sentence on what it does.
    pub(super) fn summary(&self) -> &str {
        self.value.get("summary").and_then(Value::as_str).unwrap_or_default()
    }

    /// Method and path.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method.to_uppercase(), self.path)
    }

    /// The names of its parameters in `query`, `path` or `header`.
    pub(super) fn parameters(&self, place: &str) -> BTreeSet<String> {
        let all = self.value.get("parameters").and_then(Value::as_array);
        let here = all.into_iter().flatten().filter(|parameter| parameter["in"] == place);
        here.filter_map(|parameter| Some(parameter.get("name")?.as_str()?.to_owned())).collect()
    }

    /// With what is the same for all routes of its sort.
    fn completed(mut self) -> Value {
        let id = self.path.trim_start_matches("/api/v1/").replace(['{', '}'], "").replace(['/', '.'], "_");
        self.set("operationId", json!(format!("{}_{id}", self.method)));
        self.set("x-permission", json!(self.needs.words()));
        if self.needs != Needs::Nothing {
            self.set("security", json!([{"bearer": []}, {"cookie": []}]));
        }
        if self.is_once() {
            let schema = json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"});
            let text = "Sent again with the same body, the request is answered as before and not done again.";
            self.add_parameter(
                json!({"name": "Idempotency-Key", "in": "header", "description": text, "schema": schema}),
            );
        }
        if self.gives_tag() {
            let text = "An ETag: if it is still the same, the answer is 304.";
            let schema = json!({"type": "string"});
            self.add_parameter(json!({"name": "If-None-Match", "in": "header", "description": text, "schema": schema}));
        }
        let mut responses = self.value.get("responses").and_then(Value::as_object).cloned().unwrap_or_default();
        for status in self.statuses() {
            responses.entry(status.to_string()).or_insert_with(|| response(status));
        }
        // A response must have a description (OpenAPI 3.1, section 4.8.17), and handlers seldom say more than the status.
        let words = |status: &str| StatusCode::from_bytes(status.as_bytes()).ok()?.canonical_reason();
        for (status, response) in &mut responses {
            if let Value::Object(response) = response {
                response.entry("description").or_insert_with(|| json!(words(status).unwrap_or("An answer")));
                if matches!(status.as_str(), "429" | "503") {
                    response.entry("headers").or_insert_with(retry_after);
                }
            }
        }
        self.set("responses", Value::Object(responses));
        self.value
    }

    fn set(&mut self, key: &str, value: Value) {
        if let Value::Object(operation) = &mut self.value {
            operation.insert(key.to_owned(), value);
        }
    }

    fn add_parameter(&mut self, parameter: Value) {
        let mut all = self.value.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
        all.push(parameter);
        self.set("parameters", Value::Array(all));
    }

    /// Whether an `Idempotency-Key` counts here.
    fn is_once(&self) -> bool {
        self.method == "post" && self.needs != Needs::Nothing
    }

    fn gives_tag(&self) -> bool {
        self.method == "get" && self.value["responses"]["200"]["headers"].get("ETag").is_some()
    }

    /// The statuses that the checks in front of the handler, and the reading of what it takes, may end in.
    fn statuses(&self) -> BTreeSet<u16> {
        let safe = self.method == "get";
        // A query can always be malformed, the database can always fail, and there can always be too many requests.
        let mut all = BTreeSet::from([400, 429, 500]);
        if self.needs != Needs::Nothing {
            // 403 also where anybody who has signed in may ask: not for another organisation.
            all.extend([401, 403]);
        }
        if self.path.contains('{') || matches!(self.needs, Needs::On(_)) {
            all.insert(404);
        }
        if !safe {
            // The audit cannot be written, or too many do the same.
            all.insert(503);
            if self.needs != Needs::Nothing {
                // It cannot be done as things stand: the last admin, a role that comes with the server, a key in use.
                all.insert(409);
            }
        }
        if self.value.get("requestBody").is_some() {
            all.extend([413, 415, 422]);
        }
        if self.is_once() {
            all.insert(413);
        }
        if self.parameters("header").contains(http::header::IF_MATCH.as_str()) {
            all.extend([412, 428]);
        }
        if self.gives_tag() {
            all.insert(304);
        }
        all
    }
}

fn response(status: u16) -> Value {
    if status == 304 {
        return json!({"description": "It is still what If-None-Match says."});
    }
    let kinds = Kind::ALL.iter().map(|kind| kind.facts()).filter(|(known, ..)| known.as_u16() == status);
    let meanings: Vec<String> = kinds.map(|(_, code, meaning)| format!("`{code}`: {meaning}")).collect();
    problem(&meanings.join(" "))
}

/// The header of an answer that says to come back.
fn retry_after() -> Value {
    let text = "Seconds after which it is worth trying again.";
    json!({"Retry-After": {"description": text, "schema": {"type": "integer"}}})
}

/// An answer that is a problem.
pub(super) fn problem(description: &str) -> Value {
    let schema = json!({"schema": {"$ref": "#/components/schemas/Problem"}});
    json!({"description": description, "content": {PROBLEM_JSON: schema}})
}

/// The whole description.
pub(super) fn document(operations: Vec<Operation>, schemas: Vec<(String, RefOr<Schema>)>) -> Value {
    let mut paths = Map::new();
    for operation in operations {
        let (path, method) = (operation.path.clone(), operation.method.clone());
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        if let Value::Object(methods) = methods {
            methods.insert(method, operation.completed());
        }
    }
    let mut known = Map::new();
    let problem = (Problem::name().into_owned(), Problem::schema());
    for (name, schema) in schemas.into_iter().chain([problem]) {
        known.insert(name, serde_json::to_value(schema).unwrap_or_default());
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Linkspan", "version": env!("CARGO_PKG_VERSION"), "description": ABOUT},
        "paths": paths,
        "components": {"schemas": known, "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer"},
            "cookie": {"type": "apiKey", "in": "cookie", "name": CONSOLE_COOKIE},
        }},
    })
}
