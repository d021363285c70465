//! The commands that look at switches: lists of views and single ones, derived from [`model::view`]; and those that work on
//! what a device's plan says, see [`plans`].

mod plans;

use clap::{Arg, ArgAction, ArgMatches, Command};
use model::resource::{Attribute, Resource, Shape};
use model::view::{self, View};
use openstack::Client;

use self::plans::Plans;
use crate::console::Console;
use crate::failure::Failure;
use crate::output::{self, Columns, Of, Options, Order};
use crate::{connection, tree};

const LIST: &str = "list";
const SHOW: &str = "show";
const DELETE: &str = "delete";

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
    Delete(&'static View),
    Plans(Plans),
}

/// The commands for the tree.
pub(crate) fn commands() -> Vec<Command> {
    let groups = view::ALL.iter().map(|view| {
        let show = view.shown_alone.then(|| shown(Command::new(SHOW), view));
        let delete = view.forgotten.then(|| deleted(Command::new(DELETE), view));
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
            .subcommands(delete)
            .display_order(30)
    });
    let traditional = view::ALL.iter().flat_map(|view| {
        let show = Command::new(format!("{}-{SHOW}", view.command));
        let show = view.shown_alone.then(|| shown(show, view).hide(true));
        let delete = Command::new(format!("{}-{DELETE}", view.command));
        let delete = view.forgotten.then(|| deleted(delete, view).hide(true));
        let list = Command::new(format!("{}-{LIST}", view.command));
        std::iter::once(listed(list, view).hide(true))
            .chain(show)
            .chain(delete)
    });
    groups.chain(traditional).chain(plans::commands()).collect()
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

fn deleted(command: Command, view: &View) -> Command {
    let name = Arg::new(tree::TARGET).value_name(view.noun.to_uppercase());
    command
        .about(format!("Forget {}s that are gone for good", view.noun))
        .long_about(format!(
            "Forget {}s that are gone for good. One that is connected, or that gateways name, is not forgotten.",
            view.noun
        ))
        .arg(
            name.help("Name; several where given")
                .required(true)
                .num_args(1..)
                .action(ArgAction::Append),
        )
        .args(connection::behind())
}

impl<'m> Look<'m> {
    /// The command of this module in what clap made of a command line, if there is one.
    pub(crate) fn find(matches: &'m ArgMatches) -> Option<Self> {
        let (name, below) = matches.subcommand()?;
        let what = match Plans::find(name) {
            Some(plans) => What::Plans(plans),
            None => {
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
            What::Delete(view) => self.delete(&client, view, console).await,
            What::Plans(plans) => plans.run(&client, self.matches, console).await,
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

    /// Deletes one after the other, and tells what was deleted before one could not be.
    async fn delete(
        self,
        client: &Client,
        view: &'static View,
        console: &mut Console<'_>,
    ) -> Result<(), Failure> {
        let names = self.matches.get_many::<String>(tree::TARGET);
        let mut deleted = Vec::new();
        let mut outcome = Ok(());
        for name in names.into_iter().flatten() {
            outcome = client.delete(&[view.path, name]).await;
            if outcome.is_err() {
                break;
            }
            deleted.push(name.as_str());
        }
        if !deleted.is_empty() {
            let deleted = deleted.join(", ");
            writeln!(console.out, "Deleted {}(s): {deleted}", view.member)?;
        }
        Ok(outcome?)
    }
}

impl What {
    fn of(view: &'static View, word: &str) -> Option<Self> {
        match word {
            LIST => Some(Self::List(view)),
            SHOW if view.shown_alone => Some(Self::Show(view)),
            DELETE if view.forgotten => Some(Self::Delete(view)),
            _ => None,
        }
    }
}
