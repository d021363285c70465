//! The commands that look at switches: `device list|show`, `plan`, `audit`, and lists of other views. Those of views are
//! derived from [`model::view`]; the rest works on what a device's plan says.

use clap::{Arg, ArgAction, ArgMatches, Command};
use model::resource::{Attribute, Resource, Shape};
use model::view::{self, L2_DEVICE, L2_DEVICE_PLAN, View};
use openstack::page::Record;
use openstack::{Client, Error};
use serde_json::Value;

use crate::console::Console;
use crate::failure::Failure;
use crate::output::{self, Columns, Of, Options, Order};
use crate::{connection, tree};

const PLAN: &str = "plan";
const AUDIT: &str = "audit";
const LIST: &str = "list";
const SHOW: &str = "show";
const DEVICE: &str = "device";
const ADOPT: &str = "adopt";
const DRY_RUN: &str = "dry-run";
const ACCEPT_REMOVAL: &str = "accept-removal";

/// A command of this module that was typed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look<'m> {
    what: What,
    matches: &'m ArgMatches,
}

#[derive(Clone, Copy, Debug)]
enum What {
    List(&'static View),
    Show(&'static View),
    Plan,
    Audit,
    Adopt,
}

/// The commands for the tree.
pub(crate) fn commands() -> Vec<Command> {
    let groups = view::ALL.iter().map(|view| {
        let show = view.shown_alone.then(|| shown(Command::new(SHOW), view));
        let mut about = view.about.to_owned();
        if let Some(first) = about.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        Command::new(view.short_command)
            .about(about)
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommand(listed(Command::new(LIST), view))
            .subcommands(show)
            .display_order(30)
    });
    let traditional = view::ALL.iter().flat_map(|view| {
        let show = Command::new(format!("{}-{SHOW}", view.command));
        let show = view.shown_alone.then(|| shown(show, view).hide(true));
        let list = Command::new(format!("{}-{LIST}", view.command));
        std::iter::once(listed(list, view).hide(true)).chain(show)
    });
    let device = || {
        let name = L2_DEVICE.noun.to_uppercase();
        Arg::new(DEVICE).value_name(name)
    };
    let plan = Command::new(PLAN)
        .about("Print what would be written to a device, without writing it")
        .arg(device().help("Name of the device; all where left out"))
        .args(connection::behind())
        .display_order(31);
    let audit = Command::new(AUDIT)
        .about("Compare devices with what they should hold; exit code 1 if they differ")
        .arg(device().help("Name of the device; all where left out"))
        .arg(
            Arg::new(ACCEPT_REMOVAL)
                .long(ACCEPT_REMOVAL)
                .action(ArgAction::SetTrue)
                .requires(DEVICE)
                .help("Agree that rows are changed and removed which the server's database has never known"),
        )
        .args(connection::behind())
        .display_order(32);
    let adopt = Command::new(ADOPT)
        .about("Take over what another controller left on a device under the names of our networks")
        .arg(device().required(true).help("Name of the device"))
        .arg(
            Arg::new(DRY_RUN)
                .long(DRY_RUN)
                .action(ArgAction::SetTrue)
                .help("Print what would be adopted, changed and removed, and do nothing"),
        )
        .args(connection::behind())
        .display_order(33);
    groups
        .chain(traditional)
        .chain([plan, audit, adopt])
        .collect()
}

fn listed(command: Command, view: &View) -> Command {
    let filters = filters(view).map(|(attribute, flag)| {
        Arg::new(attribute.name)
            .long(flag)
            .value_name(flag.to_uppercase())
            .action(ArgAction::Append)
            .help(format!("Only those whose {} is this", attribute.name))
    });
    command
        .about(format!("List {}s", view.noun))
        .args(filters)
        .args(output::arguments(Of::Many))
        .args(connection::behind())
}

/// The attributes by which a list can be narrowed, each with its option.
fn filters(view: &View) -> impl Iterator<Item = (&'static Attribute, &'static str)> {
    let attributes = view.attributes.iter();
    attributes.filter_map(|attribute| Some((attribute, attribute.flag?)))
}

fn shown(command: Command, view: &View) -> Command {
    let name = Arg::new(tree::TARGET).value_name(view.noun.to_uppercase());
    command
        .about(format!("Show one {}", view.noun))
        .arg(name.help("Name").required(true))
        .args(output::arguments(Of::One))
        .args(connection::behind())
}

impl<'m> Look<'m> {
    /// The command of this module in what clap made of a command line, if there is one.
    pub(crate) fn find(matches: &'m ArgMatches) -> Option<Self> {
        let (name, below) = matches.subcommand()?;
        let what = match name {
            PLAN => What::Plan,
            AUDIT => What::Audit,
            ADOPT => What::Adopt,
            _ => {
                if let Some(view) = view::ALL.iter().find(|view| view.short_command == name) {
                    let (word, matches) = below.subcommand()?;
                    let what = What::of(view, word)?;
                    return Some(Self { what, matches });
                }
                let (command, word) = name.rsplit_once('-')?;
                let view = view::ALL.iter().find(|view| view.command == command)?;
                What::of(view, word)?
            }
        };
        Some(Self {
            what,
            matches: below,
        })
    }

    /// Runs it.
    pub(crate) async fn run(
        self,
        before: &ArgMatches,
        console: &mut Console<'_>,
    ) -> Result<(), Failure> {
        let client = connection::client(before, self.matches).await?;
        match self.what {
            What::List(view) => self.list(&client, view, console).await,
            What::Show(view) => self.show(&client, view, console).await,
            What::Plan => self.plans(&client, false, console).await,
            What::Audit if self.matches.get_flag(ACCEPT_REMOVAL) => {
                self.accept_removal(&client, console).await
            }
            What::Adopt if self.matches.get_flag(DRY_RUN) => {
                self.plans(&client, false, console).await
            }
            What::Adopt => self.accept_removal(&client, console).await,
            What::Audit => self.plans(&client, true, console).await,
        }
    }

    async fn list(
        self,
        client: &Client,
        view: &'static View,
        console: &mut Console<'_>,
    ) -> Result<(), Failure> {
        let options = Options::read(self.matches);
        let columns = Columns::choose(view, Of::Many, &options)?;
        let order = Order::choose(view, &options)?;
        let mut query = Vec::new();
        for (attribute, _) in filters(view) {
            let values = self.matches.get_many::<String>(attribute.name);
            for value in values.into_iter().flatten() {
                let value = match attribute.shape {
                    Shape::Reference(kind, _) => client.find(Resource::of(kind), value).await?,
                    _ => value.clone(),
                };
                query.push((attribute.name.to_owned(), value));
            }
        }
        let answer = client.get(&[view.path], &query).await?;
        let (width, out) = (console.width, &mut *console.out);
        let mut listing = output::listing(&columns, order, &options, width, out)?;
        client.read_page(&answer, &mut |record| {
            listing.record(record).map_err(Failure::from)
        })?;
        Ok(listing.finish()?)
    }

    async fn show(
        self,
        client: &Client,
        view: &'static View,
        console: &mut Console<'_>,
    ) -> Result<(), Failure> {
        let options = Options::read(self.matches);
        let columns = Columns::choose(view, Of::One, &options)?;
        let name = self.matches.get_one::<String>(tree::TARGET);
        let path = [view.path, name.map_or("", String::as_str)];
        let record = client.member(&client.get(&path, &[]).await?)?;
        let (width, out) = (console.width, &mut *console.out);
        Ok(output::show(&columns, &options, record, width, out)?)
    }

    async fn accept_removal(
        self,
        client: &Client,
        console: &mut Console<'_>,
    ) -> Result<(), Failure> {
        let name = self.matches.get_one::<String>(DEVICE);
        let name = name.map_or("", String::as_str);
        let path = [L2_DEVICE.path, name, ACCEPT_REMOVAL];
        client.post(&path, String::new()).await?;
        Ok(writeln!(
            console.out,
            "Accepted removals on device: {name}"
        )?)
    }

    /// Prints the plans of the devices that were asked for, each endpoint's once. An audit fails if one is not empty.
    async fn plans(
        self,
        client: &Client,
        audit: bool,
        console: &mut Console<'_>,
    ) -> Result<(), Failure> {
        let names = match self.matches.get_one::<String>(DEVICE) {
            Some(name) => vec![name.clone()],
            None => names(client).await?,
        };
        let mut endpoints = Vec::new();
        let mut failed = Vec::new();
        for name in names {
            let answer = match client
                .get(&[L2_DEVICE.path, &name, L2_DEVICE_PLAN.path], &[])
                .await
            {
                Ok(answer) => answer,
                // Of several devices those that are there are still compared.
                Err(Error::Refused(refusal))
                    if self.matches.get_one::<String>(DEVICE).is_none() =>
                {
                    writeln!(console.out, "# {}", refusal.message)?;
                    failed.push(name);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let plan = client.member(&answer)?;
            let endpoint = plan.get("endpoint").cloned().unwrap_or_default();
            if endpoints.contains(&endpoint) {
                continue;
            }
            endpoints.push(endpoint);
            if !print(&name, &plan, console)? {
                failed.push(name);
            }
        }
        if audit && !failed.is_empty() {
            let failed = failed.join(", ");
            return Err(Failure::Refused(format!("not as it should be: {failed}")));
        }
        Ok(())
    }
}

impl What {
    fn of(view: &'static View, word: &str) -> Option<Self> {
        match word {
            LIST => Some(Self::List(view)),
            SHOW if view.shown_alone => Some(Self::Show(view)),
            _ => None,
        }
    }
}

async fn names(client: &Client) -> Result<Vec<String>, Failure> {
    let answer = client.get(&[L2_DEVICE.path], &[]).await?;
    let mut names = Vec::new();
    client.read_page(&answer, &mut |record: Record| {
        names.extend(
            record
                .get("name")
                .and_then(Value::as_str)
                .map(str::to_owned),
        );
        Ok::<_, Failure>(())
    })?;
    Ok(names)
}

/// Prints a plan in its own notation; whether it is empty.
fn print(name: &str, plan: &Record, console: &mut Console<'_>) -> Result<bool, Failure> {
    let lines = |attribute| {
        let lines = plan.get(attribute).and_then(Value::as_array);
        lines.into_iter().flatten().filter_map(Value::as_str)
    };
    let word = |attribute| {
        plan.get(attribute)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let [steps, waiting, blocked] = ["steps", "waiting", "blocked"].map(|a| lines(a).count());
    let out = &mut *console.out;
    write!(out, "# {name} at {}: ", word("endpoint"))?;
    if steps + waiting + blocked == 0 {
        writeln!(out, "as it should be")?;
        return Ok(true);
    }
    writeln!(out, "{steps} to do, {waiting} waiting, {blocked} blocked")?;
    for line in lines("steps") {
        writeln!(out, "{line}")?;
    }
    if waiting > 0 {
        writeln!(
            out,
            "# waiting for an operator (l2gw help audit, adopt): {}",
            word("withheld")
        )?;
    }
    for line in lines("waiting").chain(lines("blocked")) {
        writeln!(out, "{line}")?;
    }
    Ok(false)
}
