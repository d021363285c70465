//! A real cluster of ovsdb-servers that agree by RAFT (ovsdb(7), "Clustered Database Service Model"), on loopback.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::ovsdb_server::{OvsdbServer, VTEP_SCHEMA, ovsdb_tool};
use crate::port::free_port;
use crate::run::eventually;

/// How long joining or electing may take; election timers are one second.
const AGREE_WITHIN: Duration = Duration::from_secs(60);

/// The name in the schema of [`VTEP_SCHEMA`].
const DATABASE: &str = "hardware_vtep";

/// A running cluster.
#[derive(Debug)]
pub struct OvsdbCluster {
    /// Its members. They may be killed, frozen and started again one by one.
    pub members: Vec<OvsdbServer>,
}

impl OvsdbCluster {
    /// A cluster of an empty hardware_vtep database.
    ///
    /// # Errors
    /// ovsdb-server is missing, or the members do not find together.
    pub fn start(size: usize) -> Result<Self> {
        let schema = fs::read_to_string(VTEP_SCHEMA)
            .with_context(|| format!("{VTEP_SCHEMA} (package openvswitch-vtep)"))?;
        let mut addresses: Vec<String> = Vec::new();
        let mut members = Vec::new();
        for _ in 0..size {
            let own = format!("tcp:127.0.0.1:{}", free_port()?);
            members.push(OvsdbServer::of(|directory| {
                let mut command = Command::new("ovsdb-tool");
                if addresses.is_empty() {
                    let schema_file = directory.join("schema");
                    fs::write(&schema_file, &schema)?;
                    command
                        .arg("create-cluster")
                        .args([directory.join("db"), schema_file])
                        .arg(&own);
                } else {
                    command
                        .arg("join-cluster")
                        .arg(directory.join("db"))
                        .args([DATABASE, &own])
                        .args(&addresses);
                }
                ovsdb_tool(&mut command)
            })?);
            addresses.push(own);
        }
        let cluster = Self { members };
        for member in &cluster.members {
            eventually("the member has joined", AGREE_WITHIN, || {
                status_line(member, "Status")
                    .filter(|status| status == "cluster member")
                    .context("it has not")
            })?;
        }
        cluster.leader()?;
        Ok(cluster)
    }

    /// The TCP targets of all members in OVS notation, separated by commas.
    pub fn targets(&self) -> String {
        let targets: Vec<String> = self.members.iter().map(OvsdbServer::tcp_target).collect();
        targets.join(",")
    }

    /// The index of the leader, waiting for an election that is under way.
    ///
    /// # Errors
    /// No member leads in time.
    pub fn leader(&self) -> Result<usize> {
        eventually("a member leads", AGREE_WITHIN, || {
            self.members
                .iter()
                .position(|member| {
                    member.is_running() && status_line(member, "Role").as_deref() == Some("leader")
                })
                .ok_or_else(|| anyhow!("none does"))
        })
    }

    /// The index of the member with this server id, as `_Server.Database.sid` tells it (ovsdb-server(5)).
    pub fn member(&self, server_id: &str) -> Option<usize> {
        self.members.iter().position(|member| {
            let id = member
                .is_running()
                .then(|| status_line(member, "Server ID"));
            // Its first digits, and the whole in parentheses.
            id.flatten().is_some_and(|id| id.contains(server_id))
        })
    }

    /// Has the leader hand over to another member.
    ///
    /// # Errors
    /// It does not.
    pub fn transfer_leadership(&self) -> Result<()> {
        let leader = self.leader()?;
        let member = self.members.get(leader).context("the leader")?;
        member.control(&["cluster/failure-test", "transfer-leadership"])?;
        eventually("another member leads", AGREE_WITHIN, || {
            let now = self.leader()?;
            (now != leader).then_some(()).context("still the same")
        })
    }
}

/// The value of a line of `cluster/status`.
fn status_line(member: &OvsdbServer, name: &str) -> Option<String> {
    let status = member.control(&["cluster/status", DATABASE]).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .map(str::to_owned)
}
