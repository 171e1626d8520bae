//! A Modbus server of somebody else's (pymodbus) that says who it is.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::netns::{Namespace, run};
use crate::process::Process;

/// One unit, number 1; another that is asked for stays silent.
const SERVER: &str = r#"
from pymodbus.datastore import ModbusServerContext, ModbusSlaveContext
from pymodbus.device import ModbusDeviceIdentification
from pymodbus.server import StartTcpServer

names = {"VendorName": "Example <Works>", "ProductCode": "PX-7", "MajorMinorRevision": "2.1"}
StartTcpServer(
    context=ModbusServerContext(slaves={1: ModbusSlaveContext()}, single=False),
    identity=ModbusDeviceIdentification(info_name=names),
    address=("0.0.0.0", 502),
)
"#;

/// pymodbus on port 502 of a namespace: `Example <Works> PX-7 2.1`.
#[derive(Debug)]
pub struct Modbus {
    _process: Process,
}

impl Modbus {
    /// Starts it and waits until it listens.
    pub async fn start(folder: &Path, namespace: &Namespace) -> Result<Self> {
        let file = folder.join("modbus.py");
        fs::write(&file, SERVER)?;
        // The one of Debian, for which the package is.
        let mut command = namespace.command("/usr/bin/python3");
        let mut process = Process::start(
            "modbus",
            {
                command.arg(&file);
                command
            },
            folder,
        )?;
        process.until("pymodbus", async || listens(namespace, 502)).await?;
        Ok(Self { _process: process })
    }
}

/// Whether something listens on that port of a namespace, without a word to it.
pub fn listens(namespace: &Namespace, port: u16) -> Result<()> {
    let listening = run(namespace.command("ss").args(["-Hltn", &format!("sport = :{port}")]))?;
    ensure!(!listening.trim().is_empty(), "nothing listens on port {port}");
    Ok(())
}
