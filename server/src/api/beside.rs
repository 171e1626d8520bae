//! What is below `/api/v1` and answered elsewhere, as the description has it: raw streams, enrolment, the description.

use serde_json::{Value, json};

use super::Needs;
use super::describe::{Operation, problem};
use crate::access::Permission;

/// All of it.
pub(super) fn operations() -> Vec<Operation> {
    let seen = Needs::On(Permission::DeviceSee);
    vec![
        Operation::new("/api/v1/devices/{device}/services/{service}/stream", "get", seen, raw_stream()),
        Operation::new("/api/v1/enroll", "post", Needs::Nothing, enrolment()),
        Operation::new("/api/v1/openapi.json", "get", Needs::Nothing, description()),
    ]
}

fn raw_stream() -> Value {
    let path = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    json!({
        "summary": "A service's bytes as a WebSocket (RFC 6455), for SSH, VNC and the rest; docs/operations.md has its rules.",
        "description": "Needs what the service's kind asks for: shell.open, screen.view, screen.control or stream.open.",
        "parameters": [path("device"), path("service")],
        "responses": {
            "101": {"description": "The stream begins."},
            "426": problem("`not-a-websocket`: Ask with `Upgrade: websocket` over HTTP/1.1, version 13."),
            "429": problem("`stream-limit`, `data-cap`: the gateway carries as much as it may."),
            "503": problem("`gateway-offline`: the gateway is not connected."),
        },
    })
}

fn enrolment() -> Value {
    let text = |about: &str| json!({"type": "string", "description": about});
    let request = json!({
        "type": "object",
        "required": ["public_key", "proof", "agent"],
        "properties": {
            "code": text("A claim code or a provisioning key; absent in a renewal, which shows the certificate in TLS."),
            "public_key": text("A point on P-256, uncompressed, in base64."),
            "proof": text("Its signature over code or name, and itself: docs/protocol.md."),
            "name": text("The name that the router proposes; in a renewal its own."),
            "agent": text("Program and version."),
        },
    });
    let enrolled = json!({
        "type": "object",
        "required": ["name", "certificate", "server_keys", "time"],
        "properties": {
            "name": text("The server's decision."),
            "certificate": text("PEM."),
            "server_keys": {"type": "array", "items": {"type": "string"}},
            "server_ca": text("The authority of the server's own certificate, where it is not one that everybody knows."),
            "time": {"type": "integer", "description": "The server's clock, in seconds since 1970-01-01 UTC."},
        },
    });
    let pending = json!({"type": "object", "properties": {"status": {"type": "string", "enum": ["pending"]}}});
    let body = |schema: Value| json!({"application/json": {"schema": schema}});
    let wait =
        json!({"Retry-After": {"description": "Seconds until it may ask again.", "schema": {"type": "integer"}}});
    json!({
        "summary": "A router becomes a gateway, or a gateway renews its certificate.",
        "requestBody": {"required": true, "content": body(request)},
        "responses": {
            "200": {"description": "Its certificate.", "content": body(enrolled)},
            "202": {"description": "Nobody has decided yet.", "headers": wait, "content": body(pending)},
            "403": problem("`enrolment-refused`, `enrolment-declined`, `not-renewed`: what was shown is good for nothing."),
        },
    })
}

fn description() -> Value {
    let schema = json!({"type": "object"});
    let content = json!({"application/json": {"schema": schema}});
    json!({
        "summary": "This description.",
        "responses": {"200": {"description": "OpenAPI 3.1.", "content": content}},
    })
}
