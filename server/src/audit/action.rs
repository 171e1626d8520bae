//! What can be done, as dotted names: the first word is what it concerns, the last what was done. One page, so that a
//! reader of the audit finds every name it can hold.

use serde::Serialize;

/// The name of something that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Action(&'static str);

impl Action {
    /// The name.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        impl Action {
            $($(#[$doc])* pub const $name: Self = Self($text);)*

            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

actions! {
    /// The server began to serve.
    SERVER_START = "server.start";
    /// The server was told to stop.
    SERVER_STOP = "server.stop";
    /// Somebody signed in, or tried to.
    SESSION_BEGIN = "session.begin";
    /// Somebody signed out.
    SESSION_END = "session.end";
    /// Somebody ended sessions of others, or other sessions of their own.
    SESSION_REVOKE = "session.revoke";
    /// Somebody tried what they may not.
    ACCESS_DENY = "access.deny";
    /// A person was added.
    PERSON_ADD = "person.add";
    /// A person was changed: role, groups, state.
    PERSON_CHANGE = "person.change";
    /// A person was removed.
    PERSON_REMOVE = "person.remove";
    /// A password was replaced.
    PERSON_PASSWORD = "person.password";
    /// A second factor was set up, used up or taken away.
    PERSON_FACTOR = "person.factor";
    /// A one-time link for a person was made or used.
    PERSON_LINK = "person.link";
    /// A role was made out of single permissions.
    ROLE_ADD = "role.add";
    /// A role allows something else.
    ROLE_CHANGE = "role.change";
    /// A role was removed.
    ROLE_REMOVE = "role.remove";
    /// A group was made.
    GROUP_ADD = "group.add";
    /// A group was removed.
    GROUP_REMOVE = "group.remove";
    /// Somebody became a member of a group.
    GROUP_JOIN = "group.join";
    /// Somebody is no member of a group any more.
    GROUP_LEAVE = "group.leave";
    /// Something was granted.
    GRANT_ADD = "grant.add";
    /// A grant was taken away.
    GRANT_REMOVE = "grant.remove";
    /// A token for programs was made.
    TOKEN_ADD = "token.add";
    /// A token for programs was revoked.
    TOKEN_REMOVE = "token.remove";
    /// A service account was made.
    ACCOUNT_ADD = "account.add";
    /// A service account was removed.
    ACCOUNT_REMOVE = "account.remove";
    /// Somebody without an account was invited.
    VISIT_ADD = "visit.add";
    /// A second person approved a visit.
    VISIT_APPROVE = "visit.approve";
    /// A second person refused a visit.
    VISIT_REFUSE = "visit.refuse";
    /// A visit was ended before its time.
    VISIT_REVOKE = "visit.revoke";
    /// The link of a visit was used.
    VISIT_USE = "visit.use";
    /// An organisation was added.
    TENANT_ADD = "tenant.add";
    /// An organisation's pages look different, or a second factor is required there, or no longer.
    TENANT_CHANGE = "tenant.change";
    /// An organisation was removed.
    TENANT_REMOVE = "tenant.remove";
    /// A gateway was added.
    GATEWAY_ADD = "gateway.add";
    /// A router with a provisioning key began to wait for a decision.
    ENROLMENT_ASK = "enrolment.ask";
    /// A router became a gateway, with a claim code or a provisioning key; or was refused.
    GATEWAY_ENROL = "gateway.enrol";
    /// A gateway got a new certificate in place of its old one; or was refused.
    GATEWAY_RENEW = "gateway.renew";
    /// Whatever a gateway proves itself with no longer counts.
    GATEWAY_REVOKE = "gateway.revoke";
    /// Another router is to take a gateway's place.
    GATEWAY_REPLACE = "gateway.replace";
    /// A gateway was removed.
    GATEWAY_REMOVE = "gateway.remove";
    /// A gateway's link began.
    GATEWAY_CONNECT = "gateway.connect";
    /// A gateway's link ended.
    GATEWAY_DISCONNECT = "gateway.disconnect";
    /// Somebody was not let in as a gateway.
    GATEWAY_REFUSE = "gateway.refuse";
    /// A configuration was written at the server.
    CONFIG_EDIT = "config.edit";
    /// Configurations were sent on their way to gateways.
    CONFIG_APPLY = "config.apply";
    /// Configurations that are on their way go no further.
    CONFIG_STOP = "config.stop";
    /// A gateway keeps a configuration.
    CONFIG_KEEP = "config.keep";
    /// A gateway went back to the configuration before.
    CONFIG_RETURN = "config.return";
    /// Tags, values or overrides of a gateway were changed.
    CONFIG_OWN = "config.own";
    /// A template was written.
    TEMPLATE_EDIT = "template.edit";
    /// A template was removed.
    TEMPLATE_REMOVE = "template.remove";
    /// A program for gateways was added.
    UPDATE_ADD = "update.add";
    /// A program for gateways was removed.
    UPDATE_REMOVE = "update.remove";
    /// A version was sent on its way to gateways.
    UPDATE_BEGIN = "update.begin";
    /// A version that is on its way goes no further.
    UPDATE_STOP = "update.stop";
    /// A gateway is the new version now.
    UPDATE_KEEP = "update.keep";
    /// A gateway did not become the new version, or went back to the one before.
    UPDATE_RETURN = "update.return";
    /// A device that was found was published.
    DISCOVERED_APPROVE = "discovered.approve";
    /// A device that was found is not to be published.
    DISCOVERED_IGNORE = "discovered.ignore";
    /// What was decided about a device that was found no longer counts.
    DISCOVERED_RESET = "discovered.reset";
    /// A device that was found is a part of another.
    DISCOVERED_MERGE = "discovered.merge";
    /// A gateway was asked to look closer at devices.
    GATEWAY_IDENTIFY = "gateway.identify";
    /// A key for many routers was added.
    KEY_ADD = "key.add";
    /// A key for many routers was removed.
    KEY_REMOVE = "key.remove";
    /// A router that waited was made a gateway.
    ENROLMENT_ACCEPT = "enrolment.accept";
    /// A router that waited was turned away.
    ENROLMENT_REFUSE = "enrolment.refuse";
    /// A cap on a gateway's data was set or lifted.
    TRAFFIC_CAP = "traffic.cap";
    /// A stream to a service began, or was not opened.
    STREAM_BEGIN = "stream.begin";
    /// A stream to a service ended.
    STREAM_END = "stream.end";
    /// Somebody ended a stream of their own or of others.
    STREAM_CUT = "stream.cut";
    /// Somebody uses a device's pages; noted once in a while.
    PAGE_OPEN = "page.open";
    /// A connection that carried pages ended.
    PAGE_CLOSE = "page.close";
    /// The audit was exported.
    AUDIT_EXPORT = "audit.export";
    /// Old entries were taken away.
    AUDIT_PRUNE = "audit.prune";
    /// Entries could not be written, and are not here.
    AUDIT_LOST = "audit.lost";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dotted_and_stand_once() {
        let mut seen = std::collections::HashSet::new();
        for action in Action::ALL {
            let text = action.as_str();
            assert!(seen.insert(text), "{text} stands twice");
            let words: Vec<&str> = text.split('.').collect();
            assert!(
                words.len() == 2 && words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase())),
                "{text}"
            );
        }
    }
}
