//! Help texts: the overview, and one command of each kind.

use insta::assert_snapshot;

use crate::service::run;

async fn help(words: &[&str]) -> String {
    let typed = run(["l2gw"].iter().chain(words).copied(), "").await;
    assert_eq!((typed.code, &*typed.err), (0, ""), "{words:?}");
    typed.out
}

#[tokio::test]
async fn the_overview() {
    assert_snapshot!("overview", help(&["--help"]).await);
    assert_eq!(help(&["help"]).await, help(&["--help"]).await);
}

#[tokio::test]
async fn each_kind_of_command() {
    assert_snapshot!(
        "create",
        help(&["l2-remote-gateway-connection-create", "--help"]).await
    );
    assert_snapshot!(
        "create_from_a_file",
        help(&["remote-mac", "create", "--help"]).await
    );
    assert_snapshot!("list", help(&["help", "l2-remote-mac-list"]).await);
    assert_snapshot!("show", help(&["l2-gateway-show", "-h"]).await);
    assert_snapshot!("update", help(&["help", "remote-gateway", "update"]).await);
    assert_snapshot!(
        "delete",
        help(&["l2-remote-gateway-connection-delete", "-h"]).await
    );
}
