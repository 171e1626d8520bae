use linkspan_protocol::message::{DeviceReport, ServiceReport};
use serde_json::json;

use super::*;

const HERE: TenantId = TenantId(1);
const THERE: TenantId = TenantId(2);
const GATEWAY: GatewayId = GatewayId(10);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn noon() -> Timestamp {
    at("2026-07-06T12:00:00Z")
}

fn plc() -> DeviceReport {
    let services = [("web", "http"), ("admin", "https"), ("ssh", "ssh"), ("vnc", "vnc"), ("modbus", "tcp")];
    let services: Vec<_> =
        services.map(|(name, kind)| json!({"name": name, "kind": kind, "host": "10.0.0.1", "port": 1})).into();
    serde_json::from_value(json!({"name": "plc1", "tags": ["hall-2", "press"], "services": services})).unwrap()
}

fn given(role: Role, scope: Scope) -> Given {
    Given {
        grant: Some(GrantId(1)),
        role: role.to_string(),
        permissions: role.permissions(),
        scope,
        when: When::default(),
    }
}

fn rights(given: Vec<Given>) -> Rights {
    Rights { given, ..Rights::none(HERE) }
}

fn device(tenant: TenantId, report: &DeviceReport) -> DeviceTarget<'_> {
    DeviceTarget { tenant, gateway: GATEWAY, report }
}

fn service<'a>(report: &'a DeviceReport, name: &str) -> &'a ServiceReport {
    report.services.iter().find(|service| service.name.as_str() == name).unwrap()
}

fn scope(value: serde_json::Value) -> Scope {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_grant_reaches_what_it_is_about_and_nothing_else() {
    let (report, mut other) = (plc(), plc());
    other.name = "plc2".parse().unwrap();
    other.tags = vec!["hall-2".into()];
    let targets = [
        Target::Tenant(HERE),
        Target::Gateway(HERE, GATEWAY),
        Target::Gateway(HERE, GatewayId(11)),
        Target::Device(device(HERE, &report)),
        Target::Service(device(HERE, &report), service(&report, "web")),
        Target::Service(device(HERE, &report), service(&report, "admin")),
        Target::Device(DeviceTarget { gateway: GatewayId(11), ..device(HERE, &other) }),
        Target::Service(DeviceTarget { gateway: GatewayId(11), ..device(HERE, &other) }, service(&other, "web")),
        Target::Device(device(THERE, &report)),
        Target::Service(device(THERE, &report), service(&report, "web")),
        Target::Server,
    ];
    for (what, reached) in [
        (json!({"kind": "everything"}), "xxxxxxxx..x"),
        (json!({"kind": "tags", "tags": ["press"]}), "...xxx....."),
        (json!({"kind": "tags", "tags": ["hall-2"]}), "...xxxxx..."),
        (json!({"kind": "tags", "tags": ["hall-2", "press"]}), "...xxx....."),
        (json!({"kind": "tags", "tags": []}), "..........."),
        (json!({"kind": "tags", "tags": ["hall"]}), "..........."),
        (json!({"kind": "gateway", "gateway": "000000000000000a"}), ".x.xxx....."),
        (json!({"kind": "device", "device": "plc1"}), "...xxx....."),
        (json!({"kind": "service", "device": "plc1", "service": "web"}), "....x......"),
        (json!({"kind": "services", "device": "plc1", "speaks": "https"}), ".....x....."),
        (json!({"kind": "service", "device": "plc3", "service": "web"}), "..........."),
    ] {
        let rights = rights(vec![given(Role::SystemAdmin, scope(what.clone()))]);
        let got: String = targets
            .iter()
            .map(|target| if rights.may(Permission::PageOpen, target, noon()) { 'x' } else { '.' })
            .collect();
        assert_eq!(got, reached, "{what}");
    }
}

#[test]
fn who_is_granted_one_service_sees_that_its_device_is_there() {
    let report = plc();
    let one =
        rights(vec![given(Role::Operator, scope(json!({"kind": "service", "device": "plc1", "service": "web"})))]);
    let see = |service_name: &str| {
        let target = Target::Service(device(HERE, &report), service(&report, service_name));
        one.may(Permission::DeviceSee, &target, noon())
    };
    assert!(one.may(Permission::DeviceSee, &Target::Device(device(HERE, &report)), noon()));
    assert!(see("web") && !see("ssh"));
    let gone = rights(vec![given(Role::Operator, scope(json!({"kind": "service", "device": "plc1", "service": "x"})))]);
    assert!(!gone.may(Permission::DeviceSee, &Target::Device(device(HERE, &report)), noon()));
}

#[test]
fn nobody_reaches_into_another_tenant_but_who_stands_above_all_and_never_to_its_devices() {
    let report = plc();
    let there = [
        Target::Tenant(THERE),
        Target::Gateway(THERE, GATEWAY),
        Target::Device(device(THERE, &report)),
        Target::Service(device(THERE, &report), service(&report, "web")),
    ];
    for role in Role::ALL {
        let rights = rights(vec![given(role, Scope::Everything)]);
        for permission in Permission::ALL {
            for target in &there {
                let reaches = role == Role::SystemAdmin && Permission::ACROSS_TENANTS.has(*permission);
                assert_eq!(rights.may(*permission, target, noon()), reaches, "{role} {permission} {target:?}");
            }
        }
    }
    assert!(Permission::ACROSS_TENANTS.and(Permission::USE).is_empty());
    assert!(!Permission::ACROSS_TENANTS.has(Permission::DeviceSee));
}

#[test]
fn a_system_admin_of_a_part_is_none_of_the_whole() {
    let part = rights(vec![given(Role::SystemAdmin, scope(json!({"kind": "gateway", "gateway": "000000000000000a"})))]);
    for permission in Permission::ALL {
        for target in [Target::Server, Target::Tenant(HERE), Target::Tenant(THERE)] {
            assert!(!part.may(*permission, &target, noon()), "{permission} {target:?}");
        }
    }
}

#[test]
fn a_grant_counts_at_its_times() {
    let mut given = given(Role::Operator, Scope::Everything);
    given.when.until = Some(noon());
    let rights = rights(vec![given]);
    let before = at("2026-07-06T11:59:59Z");
    assert!(rights.may(Permission::PageOpen, &Target::Tenant(HERE), before));
    let late = rights.decide(Permission::PageOpen, &Target::Tenant(HERE), noon());
    assert_eq!(late.unwrap_err(), Denied::NotNow(Some(GrantId(1))));
    assert!(rights.may_somewhere(Permission::PageOpen, before) && !rights.may_somewhere(Permission::PageOpen, noon()));
}

#[test]
fn a_token_never_allows_more_than_its_owner_may_nor_more_than_it_is_for() {
    let mut token = rights(vec![given(Role::Operator, Scope::Everything)]);
    token.limit = PermissionSet::of(&[Permission::DeviceSee, Permission::ShellOpen]);
    let decide = |permission| token.decide(permission, &Target::Tenant(HERE), noon()).map(|_| ());
    assert_eq!(decide(Permission::DeviceSee), Ok(()));
    assert_eq!(decide(Permission::PageOpen), Err(Denied::Limit));
    assert_eq!(decide(Permission::ShellOpen), Err(Denied::NoGrant));
    assert_eq!(token.everywhere(noon()), PermissionSet::of(&[Permission::DeviceSee]));
}

#[test]
fn a_guest_may_no_more_than_who_invited() {
    let report = plc();
    let target = Target::Service(device(HERE, &report), service(&report, "ssh"));
    let host = |role| Arc::new(rights(vec![given(role, Scope::Everything)]));
    let guest = |sponsor| Rights {
        sponsor: Some(sponsor),
        ..rights(vec![given(Role::Technician, scope(json!({"kind": "device", "device": "plc1"})))])
    };
    assert!(guest(host(Role::Technician)).may(Permission::ShellOpen, &target, noon()));
    let demoted = guest(host(Role::Operator));
    assert_eq!(demoted.decide(Permission::ShellOpen, &target, noon()).unwrap_err(), Denied::Sponsor);
    assert!(!guest(Arc::new(Rights::none(HERE))).may(Permission::DeviceSee, &target, noon()));
}

#[test]
fn nobody_grants_what_they_do_not_have() {
    let always = When::default();
    let admin = rights(vec![given(Role::Admin, Scope::Everything)]);
    assert!(admin.may_pass_on(Role::Admin.permissions(), &Scope::Everything, &always, noon()));
    assert!(!admin.may_pass_on(Role::SystemAdmin.permissions(), &Scope::Everything, &always, noon()));
    let device = scope(json!({"kind": "device", "device": "plc1"}));
    let part = rights(vec![given(Role::Technician, device.clone())]);
    let web = scope(json!({"kind": "service", "device": "plc1", "service": "web"}));
    let operator = Role::Operator.permissions();
    assert!(part.may_pass_on(operator, &device, &always, noon()) && part.may_pass_on(operator, &web, &always, noon()));
    assert!(!part.may_pass_on(operator, &Scope::Everything, &always, noon()));
    assert!(!part.may_pass_on(operator, &scope(json!({"kind": "device", "device": "plc2"})), &always, noon()));
    let mut short = given(Role::Technician, Scope::Everything);
    short.when.until = Some(at("2027-01-01T00:00:00Z"));
    let short = rights(vec![short]);
    assert!(!short.may_pass_on(operator, &device, &always, noon()), "not for longer than they have it themselves");
    let mut token = admin;
    token.limit = operator;
    assert!(!token.may_pass_on(Role::Technician.permissions(), &device, &always, noon()));
}

#[test]
fn a_scope_with_what_is_not_known_is_refused() {
    for bad in [
        json!({"kind": "device", "device": "plc1", "tenant": 2}),
        json!({"kind": "device"}),
        json!({"kind": "all"}),
        json!({"kind": "service", "device": "PLC 1", "service": "web"}),
    ] {
        assert!(serde_json::from_value::<Scope>(bad.clone()).is_err(), "{bad}");
    }
}
