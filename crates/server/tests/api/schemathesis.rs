//! A tool that knows nothing of us reads `/openapi.json` and tries what it finds there.

use std::path::Path;

use testkit::python::SCHEMATHESIS;
use testkit::run::run;

use crate::fixture::Fixture;

/// What fits the description is accepted, or meets the world as it is: nothing of that name, a conflict, another revision.
/// One operation never accepts anything: it is described because upstream looks at its body.
const CONFIG: &str = r#"
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "412"]

[[operations]]
include-name = "PUT /v2.0/l2-gateway-connections/{id}"
checks.positive_data_acceptance.expected-statuses = ["405"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_description_says_is_what_the_server_does() {
    let server = Fixture::start().await;
    let url = server.url("/openapi.json");
    let tried = tokio::task::spawn_blocking(move || {
        // Always the same requests, so that a failure is one of the change that made it.
        let options = "--seed 1 --max-examples 10 --phases coverage,fuzzing --generation-database none --no-color";
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let config = kept.join("schemathesis.toml");
        std::fs::write(&config, CONFIG).unwrap();
        let environment = SCHEMATHESIS.installed_in(kept).unwrap();
        let mut tool = environment.command("schemathesis");
        // It leaves notes of its own where it runs.
        tool.current_dir(kept).arg("--config-file").arg(&config);
        run(tool.args(["run", &url]).args(options.split_whitespace())).unwrap();
    });
    tried.await.unwrap();
}
