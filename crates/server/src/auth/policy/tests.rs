use std::sync::Arc;

use model::resource::{Kind, Resource};
use proptest::prelude::*;

use super::*;

fn caller(project: &str, roles: &[&str]) -> Caller {
    Caller {
        project_id: project.into(),
        user_id: "u1".into(),
        user: "alice".into(),
        roles: roles.iter().map(ToString::to_string).collect(),
        is_admin: roles.contains(&"admin"),
    }
}

fn gateway() -> &'static Resource {
    Resource::of(Kind::L2Gateway)
}

/// Whether a member of project p1 with the role `member` may do what `rule` guards, with a resource of `owner`.
fn allows(rule: &str, owner: Option<&str>) -> bool {
    let file = serde_yaml_ng::to_string(
        &[("get_l2_gateway", rule)]
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
    );
    let policy = Policy::parse(&file.unwrap()).unwrap();
    policy.allows(&caller("p1", &["member"]), Operation::Get, gateway(), owner)
}

fn wrong(text: &str) -> String {
    let (line, reason) = Policy::parse(text).unwrap_err();
    format!("{}: {reason}", line.unwrap_or_default())
}

#[test]
fn without_a_file_administrators_may_everything_and_others_nothing() {
    let policy = Policy::default();
    for resource in table::ALL {
        for operation in Operation::ALL {
            for (roles, may) in [
                (&["Admin"][..], true),
                (&["member", "reader"], false),
                (&[], false),
            ] {
                let caller = caller("p1", roles);
                assert_eq!(policy.allows(&caller, operation, resource, Some("p1")), may);
                assert_eq!(policy.is_admin(&caller), may);
            }
        }
    }
}

#[test]
fn rules_mean_what_oslo_policy_says() {
    for (rule, own, others) in [
        ("", true, true),
        ("@", true, true),
        ("!", false, false),
        ("role:member", true, true),
        ("role:MEMBER", true, true),
        ("role:admin", false, false),
        ("rule:context_is_admin", false, false),
        ("project_id:%(project_id)s", true, false),
        ("tenant_id:%(tenant_id)s", true, false),
        ("project_id:p1", true, true),
        ("user_id:u1", true, true),
        ("is_admin:False", true, true),
        ("not role:member", false, false),
        ("not not role:member", true, true),
        ("role:admin or role:member and !", false, false),
        ("(role:admin or role:member) and @", true, true),
        ("not role:admin and role:member", true, true),
        ("not (role:admin or role:member)", false, false),
        (
            "role:admin OR (role:member AND project_id:%(project_id)s)",
            true,
            false,
        ),
        ("((role:member))", true, true),
        ("( role:member )", true, true),
    ] {
        assert_eq!(allows(rule, Some("p1")), own, "{rule} on what is its own");
        assert_eq!(
            allows(rule, Some("p2")),
            others,
            "{rule} on what is another's"
        );
    }
    assert!(!allows("project_id:%(project_id)s", None), "nobody owns it");
}

#[test]
fn lists_follow_the_rule_of_one_unless_they_have_their_own() {
    let member = caller("p1", &["member"]);
    let may = |text: &str, operation| {
        Policy::parse(text)
            .unwrap()
            .allows(&member, operation, gateway(), None)
    };
    let one = "get_l2_gateway: role:member";
    assert!(may(one, Operation::List) && may(one, Operation::Get));
    assert!(!may(one, Operation::Delete));
    let both = "get_l2_gateway: role:member\nget_l2_gateways: '!'";
    assert!(!may(both, Operation::List) && may(both, Operation::Get));
    let operators = "context_is_admin: role:admin or role:member";
    assert!(may(operators, Operation::Delete));
}

#[test]
fn what_makes_no_sense_is_told_with_its_line() {
    let file = "# who may\nowners: project_id:%(project_id)s\n\n";
    for (rest, said) in [
        (
            "get_l2_gateway: rule:owner",
            "4: get_l2_gateway: there is no rule 'owner'",
        ),
        (
            "'get_l2_gatway': '@'",
            "4: get_l2_gatway: there is no such operation; did you mean get_l2_gateway?",
        ),
        (
            "create_zebra: '@'",
            "4: create_zebra: there is no such operation",
        ),
        ("a: role:x and", "4: a: a check is missing at the end"),
        ("a: and role:x", "4: a: a check is missing before 'and'"),
        ("a: (role:x", "4: a: a ) is missing"),
        ("a: role:x)", "4: a: there is a ) without a ("),
        (
            "a: role:x role:y",
            "4: a: 'and' or 'or' is missing before 'role:y'",
        ),
        ("a: 'roles:x'", "4: a: 'roles:x' is no check;"),
        ("a: admin", "4: a: 'admin' is no check;"),
        ("a: 'role:'", "4: a: nothing stands behind role:"),
        (
            "a: http://x/%(name)s",
            "4: a: 'http://x/%(name)s' is no check;",
        ),
        ("a: user_id:%(user_id)s", "4: a: of a resource only"),
        ("a: 5", "4: a: name and rule are texts"),
        ("a:", "4: a: name and rule are texts"),
        (
            "a: rule:b\nb: rule:a",
            "4: a: it refers to itself: a -> b -> a",
        ),
        ("a: [", "5: "),
        ("a: '@'\na: '!'", "duplicate entry"),
        ("a: !", "4: a: name and rule are texts"),
    ] {
        let found = wrong(&format!("{file}{rest}\n"));
        assert!(found.contains(said), "{rest}: {found}");
    }
    assert!(wrong(&format!("a: {}role:x", "(".repeat(10_000))).contains("nested deeper"));
    assert!(wrong(&format!("a: {}role:x", "not ".repeat(10_000))).contains("nested deeper"));
}

#[test]
fn an_empty_file_changes_nothing() {
    for text in ["", "# nothing\n", "{}"] {
        assert_eq!(Policy::parse(text).unwrap(), Policy::default());
    }
}

#[test]
fn a_file_names_itself_in_its_errors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.yaml");
    std::fs::write(&path, "\na: nonsense\n").unwrap();
    let said = Policy::read(&path).unwrap_err().to_string();
    assert!(
        said.starts_with(&format!("{}:2: a: ", path.display())),
        "{said}"
    );
    let none = Policy::read(&directory.path().join("none"))
        .unwrap_err()
        .to_string();
    assert!(none.contains("none: No such file"), "{none}");
}

/// A rule as text, and what it is worth to the caller of [`allows`] on what is its own.
fn rule() -> impl Strategy<Value = (String, bool)> {
    let check = prop::sample::select(vec![
        ("@", true),
        ("!", false),
        ("role:member", true),
        ("role:admin", false),
        ("project_id:%(project_id)s", true),
        ("project_id:p2", false),
    ]);
    let check = check.prop_map(|(text, worth)| (text.to_owned(), worth));
    check.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            inner
                .clone()
                .prop_map(|(text, worth)| (format!("not ({text})"), !worth)),
            prop::collection::vec(inner.clone(), 1..4)
                .prop_map(|all| joined(&all, " and ", |w| w.iter().all(|w| *w))),
            prop::collection::vec(inner, 1..4)
                .prop_map(|all| joined(&all, " or ", |w| w.iter().any(|w| *w))),
        ]
    })
}

fn joined(all: &[(String, bool)], by: &str, worth: impl Fn(&[bool]) -> bool) -> (String, bool) {
    let texts: Vec<_> = all.iter().map(|(text, _)| format!("({text})")).collect();
    let worths: Vec<_> = all.iter().map(|(_, worth)| *worth).collect();
    (texts.join(by), worth(&worths))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_rule_is_worth_what_its_parts_are((text, worth) in rule()) {
        prop_assert_eq!(allows(&text, Some("p1")), worth, "{}", text);
    }

    /// The fuzz target, for as long as a test may take: no text makes the parser fall over.
    #[test]
    fn no_text_makes_the_parser_fall_over(text in "[a-z_:%()@!' \n\\[\\]{}\"#,-]{0,200}|\\PC{0,80}") {
        let _ = Policy::parse(&text);
        let _ = expression::parse(&text);
    }

    #[test]
    fn no_rule_made_of_words_makes_the_parser_fall_over(
        words in prop::collection::vec(prop::sample::select(vec![
            "(", ")", "and", "or", "not", "@", "!", "role:a", "rule:b", "project_id:%(project_id)s", "((x", "y))",
        ]), 0..40)
    ) {
        let text = words.join(" ");
        if let Ok(check) = expression::parse(&text) {
            // What is understood can be asked.
            let policy = Policy { rules: BTreeMap::from([("r".to_owned(), check)]) };
            let caller = Arc::new(caller("p1", &[]));
            policy.holds(&Check::Rule("r".to_owned()), &caller, None);
        }
    }
}

/// Texts that mean something in a policy file.
const WORDS: [&str; 24] = [
    "\"get_l2_gateway\": ",
    "\"context_is_admin\": ",
    "\"admin_only\": ",
    "\"rule:admin_only\"",
    "rule:",
    "role:",
    "project_id:%(project_id)s",
    "is_admin:True",
    " and ",
    " or ",
    "not ",
    "(",
    ")",
    "!",
    "@",
    "%(",
    "''",
    "\"",
    "\n",
    "- ",
    "&a ",
    "*a",
    "{",
    "null",
];

#[test]
fn any_policy_file_is_understood_or_refused_with_a_reason() {
    let recordings = [
        "\"context_is_admin\": \"role:admin\"\n\"admin_or_owner\": \"rule:context_is_admin or project_id:%(project_id)s\"\n\
         \"get_l2_gateway\": \"rule:admin_or_owner\"\n\"create_l2_remote_mac\": \"role:orchestrator and not role:reader\"\n",
        "get_l2_gateways: '@'\ndelete_network: '!'\nupdate_l2_gateway: '(role:a or role:b) and (not role:c)'\n",
        "# nothing\n",
    ];
    let recordings = recordings.map(|text| text.as_bytes().to_vec());
    let callers = [caller("p1", &["admin"]), caller("p2", &["member"])];
    testkit::fuzz::run(&recordings, &WORDS, |file| {
        let text = String::from_utf8_lossy(file);
        match Policy::parse(&text) {
            // Whatever it says, it answers.
            Ok(policy) => {
                for caller in &callers {
                    for resource in table::ALL {
                        for operation in Operation::ALL {
                            policy.allows(caller, operation, resource, Some("p1"));
                        }
                    }
                }
            }
            Err((line, reason)) => {
                assert!(!reason.is_empty());
                // What ends a line in YAML (1.1 section 4.2).
                let breaks = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];
                let lines = text.chars().filter(|c| breaks.contains(c)).count() + 1;
                assert!(line.is_none_or(|line| line <= lines + 1), "{line:?}");
            }
        }
    });
}
