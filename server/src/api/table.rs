//! How a route is declared: one line with method, path and need, from which the router, the checks in front of the handler
//! and the description are made.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use serde_json::Value;
use utoipa::openapi::{RefOr, Schema};
use utoipa_axum::router::UtoipaMethodRouter;

use super::{ConsoleState, DOCUMENT_BODY_MAX, PROGRAM_BODY_MAX, beside, describe, gate};
use crate::access::Permission;

/// What a route needs of who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: strangers may ask.
    Nothing,
    /// Somebody who has signed in.
    SignedIn,
    /// This permission on anything at all, or else 403; on what, the handler looks at.
    May(Permission),
    /// This permission in their own organisation as a whole, or else 403.
    Here(Permission),
    /// This permission for what the path names, which the handler looks at; or else it does not exist, 404.
    On(Permission),
}

impl Needs {
    /// In words, for the description.
    pub fn words(self) -> String {
        match self {
            Self::Nothing => "nobody in particular".to_owned(),
            Self::SignedIn => "signed in".to_owned(),
            Self::May(permission) => permission.to_string(),
            Self::Here(permission) => format!("{permission} in one's own organisation"),
            Self::On(permission) => format!("{permission} on what the path names"),
        }
    }
}

/// One route, as it was declared.
#[derive(Clone, Debug)]
pub struct Route {
    /// Method and path: `GET /api/v1/devices`.
    pub line: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// Method and path as the handler's own description has them.
    pub documented: String,
}

/// What a route lets through, checked before its handler is asked.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) needs: Needs,
    /// The parameters that its query may have.
    pub(super) parameters: Arc<BTreeSet<String>>,
}

/// All routes that were declared.
pub(super) struct Table {
    state: ConsoleState,
    router: Router<ConsoleState>,
    routes: Vec<Route>,
    operations: Vec<describe::Operation>,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Table {
    pub(super) fn new(state: &ConsoleState) -> Self {
        Self {
            state: state.clone(),
            router: Router::new(),
            routes: Vec::new(),
            operations: Vec::new(),
            schemas: Vec::new(),
        }
    }

    /// One route: its method and path, what it needs, and `routes!(handler)`.
    #[must_use]
    pub(super) fn add(
        mut self,
        line: &'static str,
        needs: Needs,
        (schemas, paths, handler): UtoipaMethodRouter<ConsoleState>,
    ) -> Self {
        self.schemas.extend(schemas);
        let paths = serde_json::to_value(&paths).unwrap_or_default();
        for operation in describe::Operation::all_of(paths, needs) {
            let rule = Rule { needs, parameters: Arc::new(operation.parameters("query")) };
            let checked = handler.clone().route_layer(from_fn_with_state((self.state.clone(), rule), gate::pass));
            self.router = self.router.route(&operation.path, checked);
            self.routes.push(Route { line, needs, documented: operation.line() });
            self.operations.push(operation);
        }
        self
    }

    /// One route whose body may be a whole configuration.
    #[must_use]
    pub(super) fn add_long(
        self,
        line: &'static str,
        needs: Needs,
        (schemas, paths, handler): UtoipaMethodRouter<ConsoleState>,
    ) -> Self {
        let longer = DefaultBodyLimit::max(DOCUMENT_BODY_MAX);
        self.add(line, needs, (schemas, paths, handler.layer(longer)))
    }

    /// One route whose body may be a whole program.
    #[must_use]
    pub(super) fn add_huge(
        self,
        line: &'static str,
        needs: Needs,
        (schemas, paths, handler): UtoipaMethodRouter<ConsoleState>,
    ) -> Self {
        let longest = DefaultBodyLimit::max(PROGRAM_BODY_MAX);
        self.add(line, needs, (schemas, paths, handler.layer(longest)))
    }

    /// The routes, for whoever checks them.
    pub(super) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Every route below `/api/v1`, what it needs and what it does, also of those that are answered elsewhere.
    pub(super) fn page(&self) -> Vec<(String, String, String)> {
        let all = self.operations.iter().cloned().chain(beside::operations());
        let mut page: Vec<_> = all.map(|one| (one.line(), one.needs.words(), one.summary().to_owned())).collect();
        page.sort_by(|(one, ..), (other, ..)| {
            one.split_once(' ')
                .map(|(method, path)| (path, method))
                .cmp(&other.split_once(' ').map(|(method, path)| (path, method)))
        });
        page
    }

    /// The router, and the description of what it answers.
    pub(super) fn finish(self) -> (Router<ConsoleState>, Value) {
        let operations = self.operations.into_iter().chain(beside::operations()).collect();
        (self.router, describe::document(operations, self.schemas))
    }
}
