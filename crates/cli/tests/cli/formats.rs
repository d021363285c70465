//! The same answer in every format.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::service::Service;

fn gateways() -> Value {
    json!({"l2_gateways": [
        {
            "id": "63821629-6cfd-44c8-8c4a-14c4b5fe28ea", "name": "gw \"1\"", "tenant_id": "p1", "project_id": "p1",
            "devices": [
                {"device_name": "d1", "interfaces": [{"name": "p1", "segmentation_id": ["100"]}], "id": "x"},
                {"device_name": "d2", "interfaces": [], "id": "y"},
            ],
        },
        {"id": "7", "name": "é日本\u{1b}[2J", "tenant_id": "p2", "project_id": "p2", "devices": []},
    ]})
}

fn macs() -> Value {
    let mac = |id: &str, mac: &str, ip: Value| {
        json!({
            "id": id, "uuid": id, "mac": mac, "ipaddr": ip, "rgw_connection": "c", "status": "DOWN",
            "status_reason": "away", "tenant_id": "", "project_id": "",
        })
    };
    json!({"l2_remote_macs": [
        mac("1", "00:00:00:00:00:03", json!("192.168.10.10")),
        mac("2", "00:00:00:00:00:01", json!("192.168.10.9")),
        mac("3", "00:00:00:00:00:02", json!(null)),
    ]})
}

async fn listing(words: &[&str]) -> String {
    let service = Service::start()
        .await
        .on("GET /v2.0/l2-gateways", 200, gateways())
        .on("GET /v2.0/l2-remote-macs", 200, macs());
    let typed = service.types(words).await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    typed.out
}

async fn shown(words: &[&str]) -> String {
    const ID: &str = "31c20418-9cf2-4d47-b17e-d92906e3f248";
    let connection = json!({"l2_remote_gateway_connection": {
        "id": ID, "l2_gateway_id": "g", "network_id": "n", "l2_remote_gateway_id": "r", "segmentation_id": 456,
        "flood": false, "status": "DOWN", "status_reason": "it's `away`", "tenant_id": "p", "project_id": "p",
    }});
    let path = format!("GET /v2.0/l2-remote-gateway-connections/{ID}");
    let service = Service::start().await.on(&path, 200, connection);
    let words = [&["l2-remote-gateway-connection-show", ID], words].concat();
    let typed = service.types(&words).await;
    assert_eq!((typed.code, &*typed.err), (0, ""));
    typed.out
}

#[tokio::test]
async fn a_list_as_table_has_a_line_for_each_device() {
    assert_snapshot!(listing(&["l2-gateway-list"]).await, @r#"
    +--------------------------------------+----------------+----------------------------------------------------------------------------------------------+
    | id                                   | name           | devices                                                                                      |
    +--------------------------------------+----------------+----------------------------------------------------------------------------------------------+
    | 63821629-6cfd-44c8-8c4a-14c4b5fe28ea | gw "1"         | {"device_name": "d1", "interfaces": [{"name": "p1", "segmentation_id": ["100"]}], "id": "x"} |
    |                                      |                | {"device_name": "d2", "interfaces": [], "id": "y"}                                           |
    | 7                                    | é日本\u{1b}[2J |                                                                                              |
    +--------------------------------------+----------------+----------------------------------------------------------------------------------------------+
    "#);
}

#[tokio::test]
async fn a_list_as_json_has_every_attribute_under_its_name() {
    assert_snapshot!(listing(&["l2-remote-mac-list", "-f", "json", "--limit", "1"]).await, @r#"
    [
      {
        "id": "1",
        "uuid": "1",
        "mac": "00:00:00:00:00:03",
        "ipaddr": "192.168.10.10",
        "rgw_connection": "c",
        "status": "DOWN",
        "status_reason": "away",
        "tenant_id": "",
        "project_id": "",
        "revision_number": null,
        "created_at": null,
        "updated_at": null
      },
      {
        "id": "2",
        "uuid": "2",
        "mac": "00:00:00:00:00:01",
        "ipaddr": "192.168.10.9",
        "rgw_connection": "c",
        "status": "DOWN",
        "status_reason": "away",
        "tenant_id": "",
        "project_id": "",
        "revision_number": null,
        "created_at": null,
        "updated_at": null
      },
      {
        "id": "3",
        "uuid": "3",
        "mac": "00:00:00:00:00:02",
        "ipaddr": null,
        "rgw_connection": "c",
        "status": "DOWN",
        "status_reason": "away",
        "tenant_id": "",
        "project_id": "",
        "revision_number": null,
        "created_at": null,
        "updated_at": null
      }
    ]
    "#);
    assert_snapshot!(listing(&["l2-remote-mac-list", "-f", "json", "--noindent", "-c", "ip_addr"]).await, @r#"[{"ipaddr": "192.168.10.10"}, {"ipaddr": "192.168.10.9"}, {"ipaddr": null}]"#);
}

#[tokio::test]
async fn a_list_as_yaml() {
    assert_snapshot!(listing(&["l2-gateway-list", "-f", "yaml"]).await, @r#"
    - id: 63821629-6cfd-44c8-8c4a-14c4b5fe28ea
      name: gw "1"
      tenant_id: p1
      project_id: p1
      devices:
      - device_name: d1
        interfaces:
        - name: p1
          segmentation_id:
          - '100'
        id: x
      - device_name: d2
        interfaces: []
        id: y
      revision_number: null
      created_at: null
      updated_at: null
    - id: '7'
      name: "é日本\e[2J"
      tenant_id: p2
      project_id: p2
      devices: []
      revision_number: null
      created_at: null
      updated_at: null
    "#);
}

#[tokio::test]
async fn a_list_as_csv_has_the_tables_columns() {
    assert_snapshot!(listing(&["l2-gateway-list", "-f", "csv"]).await, @r#"
    "id","name","devices"
    "63821629-6cfd-44c8-8c4a-14c4b5fe28ea","gw ""1""","[{""device_name"": ""d1"", ""interfaces"": [{""name"": ""p1"", ""segmentation_id"": [""100""]}], ""id"": ""x""}, {""device_name"": ""d2"", ""interfaces"": [], ""id"": ""y""}]"
    7,"é日本[2J","[]"
    "#);
    assert_snapshot!(listing(&["l2-remote-mac-list", "-f", "csv", "--quote", "minimal"]).await, @r"
    uuid,mac,ip_addr,rgw_connection
    1,00:00:00:00:00:03,192.168.10.10,c
    2,00:00:00:00:00:01,192.168.10.9,c
    3,00:00:00:00:00:02,,c
    ");
}

#[tokio::test]
async fn a_list_as_values() {
    assert_snapshot!(listing(&["l2-remote-mac-list", "-f", "value", "-c", "mac", "-c", "IP_ADDR"]).await, @r"
    00:00:00:00:00:03 192.168.10.10
    00:00:00:00:00:01 192.168.10.9
    00:00:00:00:00:02
    ");
}

#[tokio::test]
async fn details_are_every_attribute() {
    assert_snapshot!(listing(&["l2-remote-mac-list", "-D", "-c", "status_reason", "-c", "id"]).await, @r"
    +----+---------------+
    | id | status_reason |
    +----+---------------+
    | 1  | away          |
    | 2  | away          |
    | 3  | away          |
    +----+---------------+
    ");
    assert_snapshot!(listing(&["l2-remote-mac-list", "-D"]).await.lines().nth(1).unwrap(), @"| id | uuid | mac               | ip_addr       | rgw_connection | status | status_reason | tenant_id | project_id | revision_number | created_at | updated_at |");
}

#[tokio::test]
async fn sorting_knows_addresses_from_texts() {
    let by = |column, direction| async move {
        listing(&[
            "l2-remote-mac-list",
            "-f",
            "value",
            "-c",
            "uuid",
            "--sort-column",
            column,
            direction,
        ])
        .await
    };
    assert_eq!(by("mac", "--sort-ascending").await, "2\n3\n1\n");
    assert_eq!(by("MAC", "--sort-descending").await, "1\n3\n2\n");
    assert_eq!(by("ip_addr", "--sort-ascending").await, "3\n2\n1\n");
    assert_eq!(by("rgw_connection", "--sort-descending").await, "1\n2\n3\n");
}

#[tokio::test]
async fn a_table_fits_the_width_that_is_asked_for() {
    let table = listing(&["l2-remote-mac-list", "--max-width", "50"]).await;
    assert!(
        table.lines().all(|line| line.chars().count() <= 50),
        "{table}"
    );
    assert!(table.contains("192.168.1"), "{table}");
}

#[tokio::test]
async fn an_empty_list_is_an_empty_line_and_valid_in_machine_formats() {
    let service =
        Service::start()
            .await
            .on("GET /v2.0/l2-gateways", 200, json!({"l2_gateways": []}));
    let list = async |words: &[&str]| {
        service
            .types(&[&["l2-gateway-list"], words].concat())
            .await
            .out
    };
    assert_eq!(list(&[]).await, "\n");
    assert_eq!(list(&["-f", "json"]).await, "[]\n");
    assert_eq!(list(&["-f", "yaml"]).await, "[]\n");
    assert_eq!(list(&["-f", "value"]).await, "");
    assert_eq!(list(&["-f", "csv"]).await, "\"id\",\"name\",\"devices\"\n");
    assert_snapshot!(list(&["--print-empty"]).await, @r"
    +----+------+---------+
    | id | name | devices |
    +----+------+---------+
    +----+------+---------+
    ");
}

#[tokio::test]
async fn one_resource_in_every_format() {
    assert_snapshot!(shown(&["-f", "json"]).await, @r#"
    {
      "created_at": null,
      "flood": false,
      "id": "31c20418-9cf2-4d47-b17e-d92906e3f248",
      "l2_gateway_id": "g",
      "l2_remote_gateway_id": "r",
      "network_id": "n",
      "project_id": "p",
      "revision_number": null,
      "segmentation_id": 456,
      "status": "DOWN",
      "status_reason": "it's `away`",
      "tenant_id": "p",
      "updated_at": null
    }
    "#);
    assert_snapshot!(shown(&["-f", "yaml"]).await, @r"
    created_at: null
    flood: false
    id: 31c20418-9cf2-4d47-b17e-d92906e3f248
    l2_gateway_id: g
    l2_remote_gateway_id: r
    network_id: n
    project_id: p
    revision_number: null
    segmentation_id: 456
    status: DOWN
    status_reason: it's `away`
    tenant_id: p
    updated_at: null
    ");
    assert_snapshot!(shown(&["-f", "shell", "--prefix", "conn_"]).await, @r#"
    conn_created_at=""
    conn_flood="False"
    conn_id="31c20418-9cf2-4d47-b17e-d92906e3f248"
    conn_l2_gateway_id="g"
    conn_l2_remote_gateway_id="r"
    conn_network_id="n"
    conn_project_id="p"
    conn_revision_number=""
    conn_segmentation_id="456"
    conn_status="DOWN"
    conn_status_reason="it's \`away\`"
    conn_tenant_id="p"
    conn_updated_at=""
    "#);
    assert_snapshot!(shown(&["-f", "value", "-c", "id", "-c", "status"]).await, @r"
    31c20418-9cf2-4d47-b17e-d92906e3f248
    DOWN
    ");
    assert_snapshot!(shown(&["-f", "csv", "-c", "id", "-c", "flood"]).await, @r#"
    "flood","id"
    "False","31c20418-9cf2-4d47-b17e-d92906e3f248"
    "#);
    assert_snapshot!(shown(&["-c", "status_reason"]).await, @r"
    +---------------+-------------+
    | Field         | Value       |
    +---------------+-------------+
    | status_reason | it's `away` |
    +---------------+-------------+
    ");
    assert_snapshot!(shown(&["-f", "json", "--noindent", "-F", "flood"]).await, @r#"{"flood": false}"#);
}
