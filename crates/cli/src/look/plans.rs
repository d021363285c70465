//! `plan`, `audit` and `adopt`: what would be written to devices, in the plan's own notation or as records.

use clap::{Arg, ArgAction, ArgMatches, Command};
use model::resource::{Kind, Resource};
use model::view::{L2_DEVICE, L2_DEVICE_PLAN};
use openstack::page::Record;
use openstack::{Client, Error};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::connection;
use crate::console::Console;
use crate::failure::Failure;
use crate::output::{self, Columns, Of, Options, Order};

const PLAN: &str = "plan";
const AUDIT: &str = "audit";
const ADOPT: &str = "adopt";
const DEVICE: &str = "device";
const NETWORK: &str = "network";
const DRY_RUN: &str = "dry-run";
const ACCEPT_REMOVAL: &str = "accept-removal";

/// What there is to say of a server that has never seen a switch.
const NO_SWITCH: &str =
    "no switch has connected to this server yet: see --device and --ovsdb-listen of `l2gw server`";

/// One of these commands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plans {
    Plan,
    Audit,
    Adopt,
}

/// The commands for the tree.
pub(super) fn commands() -> [Command; 3] {
    let device = || {
        let name = L2_DEVICE.noun.to_uppercase();
        Arg::new(DEVICE).value_name(name)
    };
    let network = || Arg::new(NETWORK).long(NETWORK).value_name("NETWORK");
    let plan = Command::new(PLAN)
        .about("Print what would be written to a device, without writing it")
        .arg(device().help("Name of the device; all where left out"))
        .args(output::arguments(Of::Many))
        .args(connection::behind())
        .display_order(31);
    let audit = Command::new(AUDIT)
        .about("Compare devices with what they should hold; exit code 1 if they differ, 2 if that cannot be told")
        .arg(device().help("Name of the device; all where left out"))
        .arg(
            Arg::new(ACCEPT_REMOVAL)
                .long(ACCEPT_REMOVAL)
                .action(ArgAction::SetTrue)
                .requires(DEVICE)
                .help("Agree that rows are changed and removed which the server's database has never known"),
        )
        .arg(
            network()
                .requires(ACCEPT_REMOVAL)
                .help("Agree to that on this network alone"),
        )
        .args(output::arguments(Of::Many))
        .args(connection::behind())
        .display_order(32);
    let adopt = Command::new(ADOPT)
        .about("Take over what another controller left on a device under the names of our networks")
        .arg(device().required(true).help("Name of the device"))
        .arg(network().help("Take over this network alone"))
        .arg(
            Arg::new(DRY_RUN)
                .long(DRY_RUN)
                .action(ArgAction::SetTrue)
                .help("Print what would be adopted, changed and removed, and do nothing"),
        )
        .args(connection::behind())
        .display_order(33);
    [plan, audit, adopt]
}

impl Plans {
    pub(super) fn find(name: &str) -> Option<Self> {
        match name {
            PLAN => Some(Self::Plan),
            AUDIT => Some(Self::Audit),
            ADOPT => Some(Self::Adopt),
            _ => None,
        }
    }

    pub(super) async fn run(
        self,
        client: &Client,
        matches: &ArgMatches,
        console: &mut Console<'_>,
    ) -> Result<(), Failure> {
        let network = match matches.try_get_one::<String>(NETWORK).ok().flatten() {
            Some(named) => Some(id_of(client, named).await?),
            None => None,
        };
        let looks = match self {
            Self::Plan => true,
            Self::Audit => !matches.get_flag(ACCEPT_REMOVAL),
            Self::Adopt => matches.get_flag(DRY_RUN),
        };
        if looks {
            let looked = self.look(client, matches, network, console).await;
            return looked.map_err(|failure| match (self, failure) {
                // Whether a device differs is not known then.
                (Self::Audit, failure @ Failure::Service(_)) => Failure::Unknown(failure.report()),
                (_, failure) => failure,
            });
        }
        let name = matches.get_one::<String>(DEVICE);
        let name = name.map_or("", String::as_str);
        let path = [L2_DEVICE.path, name, ACCEPT_REMOVAL];
        let (body, to) = match &network {
            Some(network) => (
                json!({"network_id": network}).to_string(),
                format!("{name}, network {network}"),
            ),
            None => (String::new(), name.to_owned()),
        };
        client.post(&path, body).await?;
        // Consent to removals is consent to adoption, and the other way round; who typed which knows what was meant.
        let done = match self {
            Self::Adopt => "Agreed to adoption on device",
            Self::Plan | Self::Audit => "Accepted removals on device",
        };
        Ok(writeln!(console.out, "{done}: {to}")?)
    }

    /// Prints the plans of the devices that were asked for, each endpoint's once. An audit fails if one is not empty, and if
    /// there is none of a device for which something is declared.
    async fn look(
        self,
        client: &Client,
        matches: &ArgMatches,
        network: Option<String>,
        console: &mut Console<'_>,
    ) -> Result<(), Failure> {
        let found = plans(client, matches).await?;
        let named = |which: fn(&Found) -> bool| {
            let those = found.iter().filter(|(_, found)| which(found));
            let names: Vec<_> = those.map(|(name, _)| name.as_str()).collect();
            names.join(", ")
        };
        let different = named(|found| found.as_ref().is_ok_and(|plan| !is_empty(plan)));
        let unknown = named(|found| found.as_ref().is_err_and(|away| away.missed));
        // `adopt` speaks the plan's own notation alone.
        let options = (!matches!(self, Self::Adopt)).then(|| Options::read(matches));
        match options.filter(|options| options.format_given) {
            Some(options) => list(found, &options, console)?,
            None => {
                if found.is_empty() {
                    // Nothing at all would look like all being well.
                    writeln!(console.out, "# {NO_SWITCH}")?;
                }
                for (name, found) in &found {
                    match found {
                        Ok(plan) => print(name, plan, network.as_deref(), console)?,
                        Err(away) if away.missed => writeln!(console.out, "# {}", away.reason)?,
                        Err(away) => {
                            writeln!(console.out, "# {}; nothing is declared for it", away.reason)?
                        }
                    }
                }
            }
        }
        match self {
            Self::Plan | Self::Adopt => Ok(()),
            Self::Audit if !different.is_empty() => Err(Failure::Refused(format!(
                "not as it should be: {different}"
            ))),
            Self::Audit if !unknown.is_empty() => {
                Err(Failure::Unknown(format!("cannot be compared: {unknown}")))
            }
            Self::Audit => Ok(()),
        }
    }
}

/// The id of a network, also of one that the server does not know but a switch may.
async fn id_of(client: &Client, named: &str) -> Result<String, Failure> {
    match Uuid::try_parse(named) {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Ok(client.find(Resource::of(Kind::Network), named).await?),
    }
}

/// A plan, or why there is none.
type Found = Result<Record, Away>;

/// A device that is not there to be compared.
struct Away {
    /// Why, in words.
    reason: String,
    /// Whether something is declared for it. Devices once seen are remembered, also those that are gone for good.
    missed: bool,
}

/// The plans of the devices that were asked for by their names, each endpoint's once.
async fn plans(client: &Client, matches: &ArgMatches) -> Result<Vec<(String, Found)>, Failure> {
    let asked = matches.get_one::<String>(DEVICE);
    let names = match asked {
        Some(name) => vec![(name.clone(), true)],
        None => names(client).await?,
    };
    let mut endpoints = Vec::new();
    let mut plans = Vec::new();
    for (name, missed) in names {
        let answer = client
            .get(&[L2_DEVICE.path, &name, L2_DEVICE_PLAN.path], &[])
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            // Of several devices those that are there are still compared.
            Err(Error::Refused(refusal)) if asked.is_none() => {
                let reason = refusal.message;
                plans.push((name, Err(Away { reason, missed })));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let plan = client.member(&answer)?;
        let endpoint = plan.get("endpoint").cloned().unwrap_or_default();
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
            plans.push((name, Ok(plan)));
        }
    }
    Ok(plans)
}

/// The names of all devices, and whether something is declared for each.
async fn names(client: &Client) -> Result<Vec<(String, bool)>, Failure> {
    let answer = client.get(&[L2_DEVICE.path], &[]).await?;
    let mut names = Vec::new();
    client.read_page(&answer, &mut |record: Record| {
        let declared = ["networks", "connections"].into_iter();
        let mut declared = declared.filter_map(|counted| record.get(counted));
        let missed = declared.any(|count| count.as_u64() != Some(0));
        let name = record.get("name").and_then(Value::as_str);
        names.extend(name.map(|name| (name.to_owned(), missed)));
        Ok::<_, Failure>(())
    })?;
    Ok(names)
}

/// Prints plans as any other list.
fn list(
    found: Vec<(String, Found)>,
    options: &Options,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let columns = Columns::choose(&L2_DEVICE_PLAN, Of::Many, options)?;
    let order = Order::choose(&L2_DEVICE_PLAN, options)?;
    let (width, out) = (console.width, &mut *console.out);
    let mut listing = output::listing(&columns, order, options, width, out)?;
    for (name, found) in found {
        let record = found.unwrap_or_else(|away| {
            let told = [("name", name), ("withheld", away.reason)];
            let told = told.map(|(key, text)| (key.to_owned(), Value::String(text)));
            told.into_iter().collect()
        });
        listing.record(record)?;
    }
    Ok(listing.finish()?)
}

fn lines<'p>(plan: &'p Record, attribute: &str) -> impl Iterator<Item = &'p str> {
    let lines = plan.get(attribute).and_then(Value::as_array);
    lines.into_iter().flatten().filter_map(Value::as_str)
}

fn is_empty(plan: &Record) -> bool {
    let mut parts = ["steps", "waiting", "blocked"].into_iter();
    parts.all(|part| lines(plan, part).next().is_none())
}

/// Prints a plan in its own notation, or what it says of one network.
fn print(
    name: &str,
    plan: &Record,
    network: Option<&str>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let concerns = |line: &&str| network.is_none_or(|network| line.contains(network));
    let lines = |attribute| lines(plan, attribute).filter(concerns);
    let word = |attribute| {
        plan.get(attribute)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let [steps, waiting, blocked] = ["steps", "waiting", "blocked"].map(|a| lines(a).count());
    let out = &mut *console.out;
    write!(out, "# {name} at {}: ", word("endpoint"))?;
    if steps + waiting + blocked == 0 {
        return Ok(writeln!(out, "as it should be")?);
    }
    writeln!(out, "{steps} to do, {waiting} waiting, {blocked} blocked")?;
    for line in lines("steps") {
        writeln!(out, "{line}")?;
    }
    if waiting > 0 {
        writeln!(out, "# waiting: {}", word("withheld"))?;
    }
    for line in lines("waiting").chain(lines("blocked")) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
