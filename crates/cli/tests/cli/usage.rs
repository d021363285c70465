//! Commands that are typed wrongly: exit code 2, a suggestion, and no request.

use insta::assert_snapshot;

use crate::service::Service;

async fn refused(words: &[&str]) -> String {
    let service = Service::start().await;
    let typed = service.types(words).await;
    assert_eq!(
        (typed.code, &*typed.out),
        (2, ""),
        "{words:?}: {}",
        typed.err
    );
    assert_eq!(service.asked(), "", "{words:?}");
    typed.err
}

#[tokio::test]
async fn a_mistyped_command_or_option_gets_a_suggestion() {
    assert_snapshot!(refused(&["l2-remote-gatway-create"]).await, @r"
    error: unrecognized subcommand 'l2-remote-gatway-create'

      tip: some similar subcommands exist: 'l2-remote-gateway-create', 'l2-remote-gateway-update', 'l2-remote-gateway-list'

    Usage: l2gw [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    assert_snapshot!(refused(&["l2-remote-gateway-list", "--sort-colum", "id"]).await, @r"
    error: unexpected argument '--sort-colum' found

      tip: a similar argument exists: '--sort-column'

    Usage: l2gw l2-remote-gateway-list --sort-column <COLUMN>

    For more information, try '--help'.
    ");
}

#[tokio::test]
async fn a_missing_argument_is_named() {
    assert_snapshot!(refused(&["l2-remote-gateway-connection-create", "gw1", "net1"]).await, @r"
    error: the following required arguments were not provided:
      <REMOTE-GATEWAY-NAME/UUID>

    Usage: l2gw l2-remote-gateway-connection-create <GATEWAY-NAME/UUID> <NETWORK-NAME/UUID> <REMOTE-GATEWAY-NAME/UUID>

    For more information, try '--help'.
    ");
    assert_snapshot!(refused(&["l2-gateway-create", "gw1"]).await, @r"
    error: the following required arguments were not provided:
      --device <DEVICE>

    Usage: l2gw l2-gateway-create --device <DEVICE> <GATEWAY-NAME>

    For more information, try '--help'.
    ");
}

#[tokio::test]
async fn a_value_that_does_not_fit_the_grammar_is_named() {
    assert_snapshot!(refused(&["l2-gateway-create", "gw1", "--device", "foo"]).await, @r"
    error: invalid value 'foo' for '--device <DEVICE>': missing value for key 'foo'; interfaces are separated by ';'

    For more information, try '--help'.
    ");
    assert_snapshot!(refused(&["l2-remote-mac-create", "00:11:22:33:44:55;", "c"]).await, @r"
    error: invalid value '00:11:22:33:44:55;' for '[MAC-IP]': the IP address behind the separator is empty; the form is MAC, MAC;IP or MAC,IP

    For more information, try '--help'.
    ");
    assert_snapshot!(refused(&["remote-gateway-connection", "create", "a", "b", "c", "--flood", "maybe"]).await, @r"
    error: invalid value 'maybe' for '--flood <True|False>': it is True or False

    For more information, try '--help'.
    ");
}

#[tokio::test]
async fn an_unknown_column_is_told_with_the_known_ones_and_nothing_is_created() {
    assert_snapshot!(refused(&["l2-remote-gateway-create", "rgw1", "10.0.0.1", "-c", "ipadr"]).await, @r"
    error: l2_remote_gateway has no column 'ipadr'; it has id, name, ipaddr, bfd, tenant_id, project_id, status, status_reason, revision_number, created_at, updated_at

    For more information, try '--help'.
    ");
    refused(&["l2-remote-gateway-list", "--sort-column", "nope"]).await;
    refused(&["l2-remote-gateway-list", "--sort-key", "nope"]).await;
    refused(&[
        "l2-remote-gateway-list",
        "--sort-key",
        "id",
        "--sort-dir",
        "asc",
        "--sort-dir",
        "asc",
    ])
    .await;
    refused(&["l2-remote-gateway-list", "-f", "shell"]).await;
    refused(&["l2-remote-gateway-show", ""]).await;
    refused(&["--os-endpoint", "localhost:9720", "l2-remote-gateway-list"]).await;
    refused(&["l2-remote-gateway-list", "--timeout", "0"]).await;
}

#[tokio::test]
async fn an_update_of_nothing_is_refused() {
    let service = Service::start().await;
    let typed = service.types(&["l2-remote-gateway-update", "rgw1"]).await;
    assert_eq!(
        (typed.code, &*typed.err),
        (1, "Must specify new values to update l2_remote_gateway\n")
    );
    assert_eq!(service.asked(), "");
}
