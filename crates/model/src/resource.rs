//! The vocabulary of the resource table: what can be said about a resource and its attributes.
//!
//! The table itself is in [`mod@crate::table`]. REST routing and validation, the SQL schema, the commands and their
//! output are derived from it; nothing else lists attributes.

use std::borrow::Cow;

use crate::fault::{Fault, FaultKind};

/// Names a resource of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A network of the built-in catalogue.
    Network,
    /// A port of the built-in catalogue: a station on a network and the host it is on.
    Port,
    /// A gateway: interfaces of physical switches under one name.
    L2Gateway,
    /// A network attached to a gateway.
    L2GatewayConnection,
    /// The far end of WAN tunnels.
    L2RemoteGateway,
    /// A network stretched to a remote gateway.
    L2RemoteGatewayConnection,
    /// A station behind a remote gateway.
    L2RemoteMac,
}

/// One resource of the API.
#[derive(Debug)]
pub struct Resource {
    /// Which one.
    pub kind: Kind,
    /// Key of one object in a body, `l2_remote_mac`.
    pub member: &'static str,
    /// Key of several in a body, and the name of the SQL table, `l2_remote_macs`.
    pub collection: &'static str,
    /// Last part of `/v2.0/…`, `l2-remote-macs`.
    pub path: &'static str,
    /// Further member and collection keys, accepted and echoed (`remote-mac`, `remote-macs`).
    pub dashed: Option<(&'static str, &'static str)>,
    /// Where the collection is also served below its parent.
    pub nested: Option<Nested>,
    /// What people call one, for messages and help.
    pub noun: &'static str,
    /// First part of the commands under their traditional names, `l2-remote-mac`.
    pub command: &'static str,
    /// First words of the commands spelled noun first, `remote-mac`.
    pub short_command: &'static str,
    /// One sentence of help.
    pub about: &'static str,
    /// The API extension that announces it.
    pub extension: Option<Extension>,
    /// Whether PUT exists. Without it PUT is answered 405.
    pub updatable: bool,
    /// Whether commands resolve a name to an id.
    pub named: bool,
    /// In the order in which lists show them and references are resolved.
    pub attributes: &'static [Attribute],
    /// Groups of attributes that together occur once.
    pub unique: &'static [Unique],
    /// What is answered when an id leads nowhere; `{}` is the id.
    pub not_found: Template,
    /// What is answered when something that must not dangle refers to it; `{}` is the id.
    pub in_use: Template,
    /// The schema version that introduced it.
    pub since: u32,
}

/// A fault with one blank.
#[derive(Debug)]
pub struct Template(pub FaultKind, pub &'static str);

impl Template {
    /// The fault with the blank filled.
    pub fn fill(&self, value: &str) -> Fault {
        Fault::new(self.0, self.1.replace("{}", &cut(value)))
    }
}

/// Longest text of a client that a message repeats, in characters.
pub(crate) const MAX_SHOWN: usize = 300;

/// A text as messages repeat it: not longer than anybody wants to read.
pub fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

/// A collection below its parent: `/v2.0/<parent path>/{id}/<segment>`.
#[derive(Debug)]
pub struct Nested {
    /// The last part of the path.
    pub segment: &'static str,
    /// The attribute that refers to the parent, taken from the path.
    pub attribute: &'static str,
}

/// What `/v2.0/extensions` says.
#[derive(Debug)]
pub struct Extension {
    /// The short name clients look for.
    pub alias: &'static str,
    /// The long name.
    pub name: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// When its definition last changed.
    pub updated: &'static str,
}

/// Attributes that together may occur once, and what is answered otherwise. `{0}` in the message is the first of the
/// attributes' values as text, `{1}` the second, and so on. Rows in which one of them is null never collide.
#[derive(Debug)]
pub struct Unique {
    /// The attributes.
    pub attributes: &'static [&'static str],
    /// The kind of fault.
    pub fault: FaultKind,
    /// The message with a blank for each attribute.
    pub message: &'static str,
}

/// What values an attribute takes, on the wire and in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A UUID that the server makes.
    Id,
    /// Text of up to so many characters.
    Text(usize),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A Keystone project id; also accepted and shown as `project_id`.
    Project,
    /// A whole number in a range, ends included.
    Integer(i64, i64),
    /// true or false; also the words, in any case.
    Bool,
    /// The UUID of another resource.
    Reference(Kind, OnDelete),
    /// A unicast MAC address.
    Mac,
    /// An IPv4 or IPv6 unicast address.
    Ip,
    /// An IPv4 unicast address at which a tunnel can end.
    TunnelEndpoint,
    /// A VXLAN network identifier, 1 to 16777215; also as text.
    Vni,
    /// A VLAN as networking-l2gw takes it: text in, `""` for none; a number out, `""` for none or 0.
    VlanText,
    /// The device list of a gateway, see [`crate::devices`].
    Devices,
    /// The segments of a network, see [`crate::segments`].
    Segments,
    /// Addresses of a port: `[{"ip_address": "192.0.2.1"}]`.
    FixedIps,
    /// Where a port's host ends its tunnels: `{"tunneling_ip": "192.0.2.1"}`.
    BindingProfile,
    /// Another attribute of the same resource under a second name.
    Mirror(&'static str),
    /// Always this JSON text. Where input takes it, it takes nothing else.
    Constant(&'static str),
    /// BUILD, ACTIVE, DOWN or ERROR: read back from the switches, never stored.
    Status,
    /// Why the status is not ACTIVE, in words; null when it is.
    StatusReason,
    /// The revision of the database that wrote the row last: it grows with every change, and is what `If-Match` names.
    Revision,
    /// When the row was made: the time within its id (RFC 9562 section 5.7).
    CreatedAt,
    /// When the row was last changed, in seconds since 1970; null in rows of a database that did not note it yet.
    UpdatedAt,
}

/// What happens to a row when what it refers to is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// The deletion is refused with the target's `in_use`.
    Restrict,
    /// The row goes too.
    Cascade,
}

/// How the database keeps a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// 16 bytes.
    Uuid,
    /// 4 or 16 bytes.
    Ip,
    /// A 64-bit integer: numbers, booleans, MAC addresses.
    Integer,
    /// Text; JSON for the structured shapes.
    Text,
}

impl Shape {
    /// How the database keeps it, if it does.
    pub const fn storage(self) -> Option<Storage> {
        match self {
            Self::Id | Self::Reference(..) => Some(Storage::Uuid),
            Self::Ip | Self::TunnelEndpoint => Some(Storage::Ip),
            Self::Integer(..)
            | Self::Bool
            | Self::Mac
            | Self::Vni
            | Self::VlanText
            | Self::UpdatedAt => Some(Storage::Integer),
            Self::Text(_)
            | Self::Word(_)
            | Self::Project
            | Self::Devices
            | Self::Segments
            | Self::FixedIps
            | Self::BindingProfile => Some(Storage::Text),
            Self::Mirror(_)
            | Self::Constant(_)
            | Self::Status
            | Self::StatusReason
            | Self::Revision
            | Self::CreatedAt => None,
        }
    }
}

/// Whether POST takes an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Post {
    /// The server makes it.
    Refused,
    /// It must be given.
    Required,
    /// It may be given.
    Optional(Default),
}

/// What an attribute is when POST does not give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Null, or what the resource's own rules fill in.
    Null,
    /// A text.
    Text(&'static str),
    /// A number.
    Integer(i64),
    /// A truth value.
    Bool(bool),
    /// JSON text.
    Json(&'static str),
    /// The project of the caller.
    CallersProject,
}

/// Whether the table of a `show` or `create` command has a row for an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Yes.
    Table,
    /// No: machine formats and `-c` only.
    OnRequest,
}

/// How the create command takes an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateArg {
    /// Not at all.
    None,
    /// As an argument of its own, under this placeholder.
    Positional(&'static str),
    /// As an option.
    Flag,
}

/// One attribute of a resource.
#[derive(Debug)]
pub struct Attribute {
    /// Its key on the wire and its column in SQL.
    pub name: &'static str,
    /// Further keys accepted on input.
    pub aliases: &'static [&'static str],
    /// The values it takes.
    pub shape: Shape,
    /// Whether POST takes it.
    pub post: Post,
    /// Whether PUT takes it.
    pub put: bool,
    /// The attributes whose place it takes, and what is answered when one of them is given too.
    pub instead_of: Option<(&'static [&'static str], FaultKind, &'static str)>,
    /// Whether clients see it. What they don't see exists for the database's own constraints.
    pub visible: bool,
    /// The heading of its column in lists, if it has one.
    pub column: Option<&'static str>,
    /// Its row in shows.
    pub show: Show,
    /// How the create command takes it.
    pub create_arg: CreateArg,
    /// The option's name where it is not the attribute's own with dashes.
    pub flag: Option<&'static str>,
    /// Further names of the option.
    pub flag_aliases: &'static [&'static str],
    /// Help: what it is, with unit and range.
    pub help: &'static str,
    /// The schema version that introduced it; 0 for "with its resource".
    pub since: u32,
    /// The schema version that introduced an index for it alone, so that a page of a long list that is filtered or sorted
    /// by it costs a page; 0 where there is none. Ids, names, references and revisions have theirs without it.
    pub indexed: u32,
}

impl Attribute {
    /// An attribute that the server makes and clients see.
    pub const fn new(name: &'static str, shape: Shape, help: &'static str) -> Self {
        Self {
            name,
            aliases: &[],
            shape,
            post: Post::Refused,
            put: false,
            instead_of: None,
            visible: true,
            column: None,
            show: Show::Table,
            create_arg: CreateArg::None,
            flag: None,
            flag_aliases: &[],
            help,
            since: 0,
            indexed: 0,
        }
    }

    /// A text of up to so many characters.
    #[must_use]
    pub const fn up_to(mut self, characters: usize, help: &'static str) -> Self {
        self.shape = Shape::Text(characters);
        self.help = help;
        self
    }

    /// POST demands it.
    pub const fn required(mut self) -> Self {
        self.post = Post::Required;
        self
    }

    /// POST takes it.
    pub const fn optional(mut self, default: Default) -> Self {
        self.post = Post::Optional(default);
        self
    }

    /// PUT takes it.
    pub const fn put(mut self) -> Self {
        self.put = true;
        self
    }

    /// POST takes it or these, not both.
    #[must_use]
    pub const fn instead_of(
        mut self,
        others: &'static [&'static str],
        fault: FaultKind,
        message: &'static str,
    ) -> Self {
        self.instead_of = Some((others, fault, message));
        self
    }

    /// There since this version of the database schema, where its resource is older.
    #[must_use]
    pub const fn since(mut self, version: u32) -> Self {
        self.since = version;
        self
    }

    /// Lists are filtered and sorted by an index of it since this version of the database schema.
    #[must_use]
    pub const fn indexed(mut self, version: u32) -> Self {
        self.indexed = version;
        self
    }

    /// Input takes it under these names too.
    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// Lists have a column for it.
    pub const fn column(mut self, heading: &'static str) -> Self {
        self.column = Some(heading);
        self
    }

    /// Shows have no row for it.
    pub const fn on_request(mut self) -> Self {
        self.show = Show::OnRequest;
        self
    }

    /// Clients don't see it.
    pub const fn internal(mut self) -> Self {
        self.visible = false;
        self.show = Show::OnRequest;
        self
    }

    /// The create command takes it as an argument.
    pub const fn positional(mut self, placeholder: &'static str) -> Self {
        self.create_arg = CreateArg::Positional(placeholder);
        self
    }

    /// The create command takes it as an option.
    pub const fn flag(mut self, name: &'static str) -> Self {
        self.create_arg = CreateArg::Flag;
        self.flag = Some(name);
        self
    }

    /// The option has further names.
    pub const fn flag_aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.flag_aliases = aliases;
        self
    }

    /// Whether the database keeps it.
    pub const fn is_stored(&self) -> bool {
        self.shape.storage().is_some()
    }

    /// Whether lists can be filtered and sorted by it as it is: what the database keeps as one plain value of the wire.
    pub const fn is_sortable(&self) -> bool {
        self.visible
            && self.is_stored()
            && !matches!(
                self.shape,
                Shape::Devices
                    | Shape::Segments
                    | Shape::FixedIps
                    | Shape::BindingProfile
                    | Shape::UpdatedAt
            )
    }
}

impl Resource {
    /// The attribute of this name; aliases are not names.
    pub fn attribute(&self, name: &str) -> Option<&'static Attribute> {
        self.attributes.iter().find(|a| a.name == name)
    }

    /// Where the attribute stands in the table, and so in a [`crate::row::Row`].
    pub fn position(&self, name: &str) -> Option<usize> {
        self.attributes.iter().position(|a| a.name == name)
    }

    /// The attribute that input means by this key, aliases and mirrors included.
    pub fn input(&self, key: &str) -> Option<&'static Attribute> {
        self.attribute(key)
            .or_else(|| self.attributes.iter().find(|a| a.aliases.contains(&key)))
    }

    /// The fault for values that occur already; `values` in the order of the constraint's attributes.
    pub fn collision(unique: &Unique, values: &[String]) -> Fault {
        let mut message = unique.message.to_owned();
        for (place, value) in values.iter().enumerate() {
            message = message.replace(&format!("{{{place}}}"), value);
        }
        Fault::new(unique.fault, message)
    }

    /// The resource of a kind.
    pub fn of(kind: Kind) -> &'static Self {
        crate::table::of(kind)
    }
}
