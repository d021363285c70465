//! A tool that knows nothing of us reads `/openapi.json` and tries what it finds there.

use std::path::Path;

use testkit::python::SCHEMATHESIS;
use testkit::run::run;

use crate::fixture::Fixture;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_description_says_is_what_the_server_does() {
    let server = Fixture::start().await;
    let url = server.url("/openapi.json");
    let tried = tokio::task::spawn_blocking(move || {
        // Always the same requests, so that a failure is one of the change that made it. What JSON Schema cannot say (two
        // spellings of one attribute agree, a number in a text is in range) is no promise that all the rest is accepted.
        let options = "--seed 1 --max-examples 10 --phases coverage,fuzzing --generation-database none --no-color \
                       --exclude-checks positive_data_acceptance";
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let environment = SCHEMATHESIS.installed_in(kept).unwrap();
        let mut tool = environment.command("schemathesis");
        // It leaves notes of its own where it runs.
        tool.current_dir(kept);
        run(tool.args(["run", &url]).args(options.split_whitespace())).unwrap();
    });
    tried.await.unwrap();
}
