//! One rule's text: oslo.policy's language without its lists, HTTP calls and plugins.
//!
//! ```text
//! rule  = "" | or
//! or    = and ("or" and)*
//! and   = not ("and" not)*
//! not   = "not" not | "(" or ")" | check
//! check = "@" | "!" | "role:" NAME | "rule:" NAME | FACT ":" (TEXT | "%(project_id)s" | "%(tenant_id)s")
//! FACT  = "project_id" | "tenant_id" | "user_id" | "is_admin"
//! ```
//!
//! Words are separated by blanks, and parentheses stand at a word's ends, as oslo.policy's parser has it; `and` binds
//! closer than `or`, `not` closer than both.

/// As deep may parentheses and `not` be nested. Nobody writes that; without a bound a file could exhaust the stack.
const DEEPEST: usize = 50;

/// A rule, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// `@` and the empty rule.
    Always,
    /// `!`
    Never,
    /// The caller has this role; case does not matter, as in Keystone.
    Role(String),
    /// What the rule of this name says.
    Rule(String),
    /// Something about the caller is as stated.
    Is(Fact, Stated),
    Not(Box<Check>),
    All(Vec<Check>),
    Any(Vec<Check>),
}

/// Something about the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Project,
    User,
    Admin,
}

/// What it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stated {
    Text(String),
    /// The project that owns the resource.
    Owner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word<'t> {
    Open,
    Close,
    And,
    Or,
    Not,
    Check(&'t str),
}

/// Understands a rule's text.
///
/// # Errors
/// It makes no sense; the reason, without a full stop.
pub(super) fn parse(text: &str) -> Result<Check, String> {
    let words = words(text);
    if words.is_empty() {
        return Ok(Check::Always);
    }
    let mut rest = Rest {
        words: words.into_iter().peekable(),
        depth: 0,
    };
    let check = rest.any()?;
    match rest.words.next() {
        None => Ok(check),
        Some(Word::Close) => Err("there is a ) without a (".to_owned()),
        Some(word) => Err(format!("'and' or 'or' is missing before {}", shown(word))),
    }
}

fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    for blank_free in text.split_whitespace() {
        let opened = blank_free.trim_start_matches('(');
        words.extend((opened.len()..blank_free.len()).map(|_| Word::Open));
        let inner = opened.trim_end_matches(')');
        let word = match inner.to_lowercase().as_str() {
            "" => None,
            "and" => Some(Word::And),
            "or" => Some(Word::Or),
            "not" => Some(Word::Not),
            _ => Some(Word::Check(inner)),
        };
        words.extend(word);
        words.extend((inner.len()..opened.len()).map(|_| Word::Close));
    }
    words
}

fn shown(word: Word<'_>) -> String {
    match word {
        Word::Open => "(".to_owned(),
        Word::Close => ")".to_owned(),
        Word::And => "'and'".to_owned(),
        Word::Or => "'or'".to_owned(),
        Word::Not => "'not'".to_owned(),
        Word::Check(text) => format!("'{text}'"),
    }
}

/// The words that are still to be understood.
struct Rest<'t> {
    words: std::iter::Peekable<std::vec::IntoIter<Word<'t>>>,
    depth: usize,
}

impl<'t> Rest<'t> {
    fn any(&mut self) -> Result<Check, String> {
        let first = self.all()?;
        self.joined(first, Word::Or, Self::all, Check::Any)
    }

    fn all(&mut self) -> Result<Check, String> {
        let first = self.one()?;
        self.joined(first, Word::And, Self::one, Check::All)
    }

    fn joined(
        &mut self,
        first: Check,
        by: Word<'t>,
        operand: impl Fn(&mut Self) -> Result<Check, String>,
        join: impl FnOnce(Vec<Check>) -> Check,
    ) -> Result<Check, String> {
        let mut operands = vec![first];
        while self.words.next_if_eq(&by).is_some() {
            operands.push(operand(self)?);
        }
        match operands.pop() {
            Some(only) if operands.is_empty() => Ok(only),
            last => Ok(join(operands.into_iter().chain(last).collect())),
        }
    }

    fn one(&mut self) -> Result<Check, String> {
        match self.words.next() {
            Some(Word::Not) => self.deeper(|rest| Ok(Check::Not(Box::new(rest.one()?)))),
            Some(Word::Open) => self.deeper(|rest| {
                let inner = rest.any()?;
                match rest.words.next() {
                    Some(Word::Close) => Ok(inner),
                    Some(word) => Err(format!(
                        "'and', 'or' or ) is missing before {}",
                        shown(word)
                    )),
                    None => Err("a ) is missing".to_owned()),
                }
            }),
            Some(Word::Check(text)) => check(text),
            Some(word) => Err(format!("a check is missing before {}", shown(word))),
            None => Err("a check is missing at the end".to_owned()),
        }
    }

    fn deeper(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<Check, String>,
    ) -> Result<Check, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("it is nested deeper than {DEEPEST}"));
        }
        let check = inner(self)?;
        self.depth -= 1;
        Ok(check)
    }
}

fn check(text: &str) -> Result<Check, String> {
    match text {
        "@" => return Ok(Check::Always),
        "!" => return Ok(Check::Never),
        _ => {}
    }
    let unknown = || {
        format!(
            "'{text}' is no check; there are @, !, role:, rule:, project_id:, tenant_id:, user_id: and is_admin:"
        )
    };
    let (kind, stated) = text.split_once(':').ok_or_else(unknown)?;
    if stated.is_empty() {
        return Err(format!("nothing stands behind {kind}:"));
    }
    let fact = match kind {
        "role" | "rule" if stated.contains("%(") => {
            return Err(format!("behind {kind}: stands a name"));
        }
        "role" => return Ok(Check::Role(stated.to_owned())),
        "rule" => return Ok(Check::Rule(stated.to_owned())),
        "project_id" | "tenant_id" => Fact::Project,
        "user_id" => Fact::User,
        "is_admin" => Fact::Admin,
        _ => return Err(unknown()),
    };
    let stated = match stated {
        "%(project_id)s" | "%(tenant_id)s" => Stated::Owner,
        other if other.contains("%(") => {
            return Err(format!(
                "of a resource only %(project_id)s and %(tenant_id)s are known, not '{other}'"
            ));
        }
        other => Stated::Text(other.to_owned()),
    };
    Ok(Check::Is(fact, stated))
}
