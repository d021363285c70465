//! A tool that knows nothing of us reads `/openapi.json` and tries what it finds there.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::Fixture;

const VERSION: &str = "4.32.5";

/// The virtual environment with the tool; made once and kept beside the build.
fn installed() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("schemathesis-{VERSION}"));
    let tool = home.join("bin/schemathesis");
    if !tool.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&home));
        let package = format!("schemathesis=={VERSION}");
        run(Command::new(home.join("bin/pip")).args(["install", "--quiet", &package]));
    }
    tool
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{command:?}\n{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_description_says_is_what_the_server_does() {
    let server = Fixture::start().await;
    let url = server.url("/openapi.json");
    let tried = tokio::task::spawn_blocking(move || {
        // Always the same requests, so that a failure is one of the change that made it. What JSON Schema cannot say (two
        // spellings of one attribute agree, a number in a text is in range) is no promise that all the rest is accepted.
        let options = "--seed 1 --max-examples 10 --phases coverage,fuzzing --generation-database none --no-color \
                       --exclude-checks positive_data_acceptance";
        let mut tool = Command::new(installed());
        // It leaves notes of its own where it runs.
        tool.current_dir(env!("CARGO_TARGET_TMPDIR"));
        run(tool.args(["run", &url]).args(options.split_whitespace()));
    });
    tried.await.unwrap();
}
