use super::*;

const MB: usize = 1 << 20;

fn budget(connections: usize, bytes: usize) -> Budget {
    Budget::new(Bounds {
        connections,
        bytes,
        advice: " (look here)",
    })
}

fn dial(budget: &Budget, last: u8) -> Share {
    budget.admit(Some([192, 0, 2, last].into())).unwrap()
}

fn named(budget: &Budget, expected: bool, bytes: usize) -> Share {
    let share = dial(budget, 1);
    share.introduce(expected);
    let _ = share.add(bytes);
    share
}

fn why_closed(share: &Share) -> String {
    share.0.ended.borrow().as_deref().unwrap_or("").to_owned()
}

#[test]
fn of_strangers_who_have_too_much_who_has_most_is_closed_and_no_switch() {
    let budget = budget(100, 40 * MB);
    let switch = named(&budget, true, 29 * MB);
    let (small, large) = (named(&budget, false, 3 * MB), named(&budget, false, 6 * MB));
    assert_eq!(why_closed(&large), "");
    // It is not who comes last, nor who asks for more.
    assert_eq!(small.add(2 * MB), Ok(()));
    let (total, own) = (11 * MB + 2 * CONNECTION, 6 * MB + CONNECTION);
    assert_eq!(
        why_closed(&large),
        format!(
            "callers that nobody expects have {total} bytes together, and 10485760 are the most; \
             it has the most, {own} bytes (look here)"
        )
    );
    assert!(why_closed(&small).is_empty() && why_closed(&switch).is_empty());
}

#[test]
fn of_switches_that_have_too_much_the_largest_is_closed_and_no_stranger() {
    let budget = budget(100, 40 * MB);
    let stranger = named(&budget, false, 9 * MB);
    let small = named(&budget, true, 10 * MB);
    let large = named(&budget, true, 15 * MB);
    assert_eq!(small.add(4 * MB), Ok(()));
    assert_eq!(why_closed(&large), "");
    let refused = large.add(2 * MB).unwrap_err();
    assert!(
        refused.starts_with("switches that dialled have "),
        "{refused}"
    );
    assert!(why_closed(&small).is_empty() && why_closed(&stranger).is_empty());
}

#[test]
fn who_has_not_said_who_it_is_has_little() {
    let budget = budget(100, 400 * MB);
    let caller = dial(&budget, 1);
    assert_eq!(caller.add(INTRODUCTION - CONNECTION), Ok(()));
    let refused = caller.add(1).unwrap_err();
    assert_eq!(
        &*refused,
        "it has 524289 bytes and has not said who it is: 524288 are the most until then"
    );
}

/// Else a switch, which says more of itself than those must who only want to be in its way, would be the largest.
#[test]
fn a_newcomer_is_not_closed_for_what_it_takes_to_say_who_it_is() {
    let budget = budget(1000, 40 * MB);
    let mut flood: Vec<_> = std::iter::repeat_with(|| dial(&budget, 66))
        .take(300)
        .collect();
    let switch = dial(&budget, 7);
    assert_eq!(switch.add(100_000), Ok(()));
    flood.extend(std::iter::repeat_with(|| dial(&budget, 66)).take(300));
    assert_eq!(why_closed(&switch), "");
    let closed = flood
        .iter()
        .filter(|share| !why_closed(share).is_empty())
        .count();
    assert!(closed > 200, "{closed}");
    assert!(budget.usage().strangers_bytes < 40 * MB);
    let first = flood.first().map(why_closed).unwrap();
    assert!(
        first.contains("from its address it has been there longest"),
        "{first}"
    );
}

#[test]
fn of_too_many_connections_the_oldest_goes_of_the_address_that_has_most() {
    let budget = budget(4, 400 * MB);
    let switch = named(&budget, true, 0);
    let newcomer = dial(&budget, 2);
    let (one, other) = (dial(&budget, 66), dial(&budget, 66));
    let third = dial(&budget, 66);
    assert_eq!(
        why_closed(&one),
        "there are 4 connections of callers, and 4 are the most; of 2 from its address that nobody expects it has been there longest"
    );
    for stays in [&switch, &newcomer, &other, &third] {
        assert_eq!(why_closed(stays), "");
    }
    for share in [&newcomer, &other, &third] {
        share.introduce(true);
    }
    let refused = budget.admit(None).unwrap_err();
    assert_eq!(
        refused,
        "there are 4 connections of switches that dialled, and 4 are the most"
    );
    assert_eq!(budget.usage().closed.for_connections, 2);
}

#[test]
fn a_site_with_many_addresses_of_ipv6_is_one() {
    let budget = budget(3, 400 * MB);
    let dial = |text: &str| budget.admit(Some(text.parse().unwrap())).unwrap();
    let newcomer = dial("2001:db8:1::1");
    let flood = [
        dial("2001:db8:2::1"),
        dial("2001:db8:2::2"),
        dial("2001:db8:2::3"),
    ];
    assert_eq!(why_closed(&newcomer), "");
    assert!(!why_closed(&flood[0]).is_empty());
}

#[test]
fn what_is_given_back_can_be_had_again_and_nothing_is_lost() {
    let budget = budget(100, 40 * MB);
    {
        let share = named(&budget, true, 0);
        let mut held = Held::by(Some(&share));
        for bytes in [MB, 20 * MB, 3 * MB, 0, 29 * MB] {
            held.set(bytes).unwrap();
            assert_eq!(budget.usage().expected_bytes, bytes + CONNECTION);
        }
        // It is closed, and what it has is there until it gives it back.
        assert!(held.set(50 * MB).is_err());
        assert_eq!(budget.usage().expected_bytes, 50 * MB + CONNECTION);
        assert_eq!(budget.usage().expected, 0);
        held.set(10 * MB).unwrap();
        share.introduce(false);
        assert_eq!(budget.usage().strangers_bytes, 10 * MB + CONNECTION);
    }
    let usage = budget.usage();
    assert_eq!((usage.expected_bytes, usage.strangers_bytes), (0, 0));
    assert_eq!((usage.expected, usage.strangers), (0, 0));
}

#[tokio::test]
async fn readers_pause_until_who_was_closed_has_given_back_what_it_had() {
    let budget = budget(100, 40 * MB);
    let (small, large) = (named(&budget, false, 5 * MB), named(&budget, false, 6 * MB));
    assert!(!why_closed(&large).is_empty());
    let mut room = std::pin::pin!(small.room());
    let at_once = tokio::time::timeout(Duration::from_millis(20), &mut room).await;
    assert!(at_once.is_err());
    drop(large);
    let then = tokio::time::timeout(Duration::ZERO, room).await;
    assert!(then.is_ok());
}
