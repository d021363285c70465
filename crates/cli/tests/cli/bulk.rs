//! Stations from a file or standard input, in one request.

use std::io::Write;

use insta::assert_snapshot;
use serde_json::json;

use crate::service::{Service, refusal};

const CONN: &str = "31c20418-9cf2-4d47-b17e-d92906e3f248";
const PATH: &str =
    "POST /v2.0/l2-remote-gateway-connections/31c20418-9cf2-4d47-b17e-d92906e3f248/remote-macs";
const TWO: &str = "mac,ip\n00:11:22:33:44:55,1.2.3.5\n00:11:22:33:44:66;1.2.3.6\n";

async fn service() -> Service {
    let mac = |mac: &str| json!({"id": mac, "uuid": mac, "mac": mac, "ipaddr": null, "rgw_connection": CONN});
    let answer = json!({"remote-macs": [mac("00:11:22:33:44:55"), mac("00:11:22:33:44:66")]});
    Service::start().await.on(PATH, 201, answer)
}

#[tokio::test]
async fn a_file_is_one_request_and_a_summary() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(TWO.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    let service = service().await;
    let typed = service
        .types(&["l2-remote-mac-create", "--file", path, CONN])
        .await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    let summary = format!("Created 2 l2_remote_macs from {path}.\n");
    assert_eq!(typed.out, summary);
    assert_snapshot!(service.asked(), @r#"POST /v2.0/l2-remote-gateway-connections/31c20418-9cf2-4d47-b17e-d92906e3f248/remote-macs {"remote-macs":[{"mac":"00:11:22:33:44:55","ipaddr":"1.2.3.5"},{"mac":"00:11:22:33:44:66","ipaddr":"1.2.3.6"}]}"#);
}

#[tokio::test]
async fn standard_input_is_read_and_rows_are_printed_when_a_format_is_asked_for() {
    let service = service().await;
    let words = [
        "remote-mac",
        "create",
        CONN,
        "--file",
        "-",
        "-f",
        "value",
        "-c",
        "mac",
    ];
    let typed = service.types_with_input(&words, TWO).await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    assert_eq!(typed.out, "00:11:22:33:44:55\n00:11:22:33:44:66\n");
}

#[tokio::test]
async fn options_count_for_every_station() {
    let service = service().await;
    let words = [
        "remote-mac",
        "create",
        "--file",
        "-",
        CONN,
        "--tenant-id",
        "a \"b\"",
    ];
    let typed = service.types_with_input(&words, TWO).await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    assert_snapshot!(service.asked(), @r#"POST /v2.0/l2-remote-gateway-connections/31c20418-9cf2-4d47-b17e-d92906e3f248/remote-macs {"remote-macs":[{"mac":"00:11:22:33:44:55","ipaddr":"1.2.3.5","tenant_id":"a \"b\""},{"mac":"00:11:22:33:44:66","ipaddr":"1.2.3.6","tenant_id":"a \"b\""}]}"#);
}

#[tokio::test]
async fn a_bad_line_is_named_and_nothing_is_sent() {
    let service = service().await;
    let words = ["l2-remote-mac-create", "--file", "-", CONN];
    let typed = service
        .types_with_input(&words, "00:11:22:33:44:55\nx\n")
        .await;
    assert_eq!((typed.code, &*typed.out), (2, ""));
    assert_snapshot!(typed.err, @r"
    error: standard input, line 2: 'x' is not a valid MAC address.

    For more information, try '--help'.
    ");
    assert_eq!(service.asked(), "");
}

#[tokio::test]
async fn what_the_server_refuses_is_named_by_its_line() {
    let message =
        "Item 1: Remote MAC 00:11:22:33:44:66 is already declared on this network of this gateway.";
    let service = Service::start()
        .await
        .on(PATH, 409, refusal("L2RemoteMacExists", message));
    let typed = service
        .types_with_input(&["l2-remote-mac-create", "--file", "-", CONN], TWO)
        .await;
    assert_eq!((typed.code, &*typed.out), (1, ""));
    assert_snapshot!(typed.err, @r"
    standard input, line 3: Remote MAC 00:11:22:33:44:66 is already declared on this network of this gateway.
    Neutron server returns request_ids: ['req-7']
    ");
}

#[tokio::test]
async fn a_station_and_a_file_exclude_each_other() {
    let service = service().await;
    for words in [
        &[
            "l2-remote-mac-create",
            "00:11:22:33:44:55",
            CONN,
            "--file",
            "-",
        ][..],
        &["l2-remote-mac-create", "--file", "-"],
        &["l2-remote-mac-create", "--file", "/no/such/file", CONN],
        &["l2-remote-mac-create", "00:11:22:33:44:55"],
    ] {
        let typed = service.types(words).await;
        assert_eq!((typed.code, &*typed.out), (2, ""), "{words:?}");
        assert_ne!(typed.err, "");
    }
    assert_eq!(service.asked(), "");
}

#[tokio::test]
async fn a_hundred_thousand_arrive_whole() {
    let lines: String = (0..100_000_u64)
        .map(|n| {
            format!(
                "{},10.{}.{}.{}\n",
                model::value::MacAddress::from_u64(0x0200_0000_0000 | n),
                n >> 16,
                n >> 8 & 255,
                n & 255
            )
        })
        .collect();
    let service = service().await;
    let typed = service
        .types_with_input(&["l2-remote-mac-create", "--file", "-", CONN], &lines)
        .await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    let asked = service.asked();
    let (_, body) = asked.split_once(" {").unwrap();
    let body: serde_json::Value = serde_json::from_str(&format!("{{{body}")).unwrap();
    let macs = body["remote-macs"].as_array().unwrap();
    assert_eq!(macs.len(), 100_000);
    assert_eq!(
        macs[99_999],
        json!({"mac": "02:00:00:01:86:9f", "ipaddr": "10.1.134.159"})
    );
}
