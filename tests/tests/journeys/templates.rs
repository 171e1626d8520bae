//! One template for many real gateways: values and overrides for each, shown, applied in waves, stopped where one refuses.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use linkspan_server::fleet::{self, Applied, Group, NotApplied, Value, Values};
use linkspan_server::rights::TenantId;
use linkspan_server::store::{GatewayId, NewTemplate};
use linkspan_tests::rig::{Rig, RunningGateway};
use linkspan_tests::wait::{PATIENCE, until};

/// The second of them forbids what it is going to be sent.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const TEMPLATE: &str = "[log]\nlevel = \"{{ level }}\"\n\n[[device]]\nname = \"plc-{{ gateway.name }}\"\nhost = \"127.0.0.1\"\n\
                        [[device.service]]\nname = \"raw\"\nkind = \"tcp\"\nport = \"{{ plc.port }}\"\n";

struct Pumps {
    rig: Rig,
    _running: Vec<RunningGateway>,
}

impl Pumps {
    async fn start() -> Result<Self> {
        let rig = Rig::start().await?;
        let mut running = Vec::new();
        for name in NAMES {
            let config = rig.new_gateway(name).await?;
            let config = if name == "b" { config.lines("[policy]\nports = [\"4000-4999\"]\n") } else { config };
            running.push(rig.run_gateway(&config)?);
        }
        let pumps = Self { rig, _running: running };
        until("all gateways", PATIENCE, async || {
            for name in NAMES {
                pumps.running(name).await?;
            }
            Ok(())
        })
        .await?;
        Ok(pumps)
    }

    async fn id(&self, name: &str) -> Result<GatewayId> {
        Ok(self.rig.store().gateway(&name.parse()?).await?.context("it is not there")?.id)
    }

    /// The document that a gateway has told it lives by.
    async fn running(&self, name: &str) -> Result<String> {
        let report = self.rig.store().config_report(self.id(name).await?).await?;
        report.and_then(|report| report.document).context("its document is not known yet")
    }

    async fn own(&self, name: &str, port: i64, overrides: &str) -> Result<()> {
        let id = self.id(name).await?;
        let version = self.rig.store().own_part(id).await?.version;
        let values = [("level", Value::Text("info".into())), ("plc.port", Value::Number(port))];
        let values: Values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let part =
            fleet::own_part(version, vec!["pump".into()], &values, overrides.into()).map_err(anyhow::Error::msg)?;
        ensure!(self.rig.store().set_own_part(id, &part).await?, "somebody was faster");
        Ok(())
    }

    async fn group(&self) -> Result<Group> {
        let template = self.rig.store().template(TenantId::DEFAULT, "pumps").await?.context("no template")?;
        Ok(Group::of(self.rig.store(), template).await?)
    }

    async fn apply(&self, fingerprint: &str) -> Result<Result<Applied, NotApplied>> {
        let asked = fleet::Asked {
            fingerprint: Some(fingerprint.to_owned()),
            only: Vec::new(),
            skip_refused: false,
            author: "a test".into(),
            comment: String::new(),
            wave: 1,
            deadline: Duration::from_secs(60),
            overwrite: false,
        };
        Ok(fleet::apply_template(self.rig.store(), &self.group().await?, &asked).await)
    }

    /// How each gateway of a rollout fared.
    async fn fared(&self, applied: &Applied) -> Result<String> {
        let ended = until("the end of the rollout", PATIENCE, async || {
            let members = self.rig.store().rollout_members(applied.rollout).await?;
            ensure!(members.iter().all(|member| member.state.is_final()), "some are under way");
            Ok(members)
        });
        let all = ended.await?;
        Ok(all.iter().map(|one| format!("{} {}", one.name, one.state.as_str())).collect::<Vec<_>>().join(", "))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_template_for_many_gateways_goes_in_waves_and_stops_where_one_refuses() {
    let pumps = Pumps::start().await.unwrap();
    for (name, port) in NAMES.into_iter().zip(5000..) {
        pumps.own(name, port, "").await.unwrap();
    }
    let tags = ["pump".to_owned()];
    let new = NewTemplate { tags: &tags, document: TEMPLATE, author: "a test", comment: "" };
    assert!(pumps.rig.store().add_template(TenantId::DEFAULT, "pumps", new).await.unwrap());
    let group = pumps.group().await.unwrap();
    let shown = group.preview(pumps.rig.store(), &"d".parse().unwrap()).await.unwrap().unwrap();
    assert!(shown.diff.contains("+name = \"plc-d\"") && shown.diff.contains("+port = 5003"), "{}", shown.diff);
    assert!(!pumps.running("a").await.unwrap().contains("plc-a"), "looking changes nothing");

    let first = pumps.apply(&group.fingerprint).await.unwrap().unwrap();
    assert_eq!(pumps.fared(&first).await.unwrap(), "a kept, b failed, c skipped, d skipped");
    let running = pumps.running("a").await.unwrap();
    assert!(running.contains("name = \"plc-a\"") && running.contains("port = 5000"), "{running}");

    // The one that refuses goes its own way, and then it goes through.
    let own = "[[device]]\nname = \"plc-b\"\nhost = \"127.0.0.1\"\n[[device.service]]\nname = \"raw\"\nkind = \"tcp\"\nport = 4001\n";
    pumps.own("b", 5001, own).await.unwrap();
    let stale = pumps.apply(&group.fingerprint).await.unwrap();
    assert!(matches!(stale, Err(NotApplied::Changed)), "{stale:?}");
    let second = pumps.apply(&pumps.group().await.unwrap().fingerprint).await.unwrap().unwrap();
    assert_eq!(pumps.fared(&second).await.unwrap(), "a kept, b kept, c kept, d kept");
    let running = pumps.running("b").await.unwrap();
    assert!(running.contains("port = 4001") && running.contains("level = \"info\""), "{running}");
}
