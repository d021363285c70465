//! TLS in front of a server that has none: what arrives on a port of its own is decrypted and passed on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::certificates::Credentials;
use crate::daemon::Daemon;

/// How long it may take until it listens, on a machine with other things to do.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Certificate, key, host and port of the server; the port it listens on is printed. One thread carries both directions:
/// OpenSSL does not let two use a connection at once, and Python locks none before 3.13.
const RELAY: &str = r#"
import asyncio, ssl, sys
certificate, key, host, port = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)

async def pass_on(source, sink):
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.close()

async def relay(reader, writer):
    try:
        from_server, to_server = await asyncio.open_connection(host, port)
    except OSError as failure:
        print("server:", failure, flush=True)
        writer.close()
        return
    await asyncio.gather(pass_on(reader, to_server), pass_on(from_server, writer))

async def serve():
    listener = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    print("listening on", listener.sockets[0].getsockname()[1], flush=True)
    await listener.serve_forever()

asyncio.run(serve())
"#;

/// A running relay. Dropping it ends it.
#[derive(Debug)]
pub struct TlsRelay {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    _daemon: Daemon,
}

impl TlsRelay {
    /// Shows `credentials` to whoever connects, and passes on to `server` (host and port). Its log is kept in `directory`.
    ///
    /// # Errors
    /// python3 is missing, or it does not listen.
    pub fn start(credentials: &Credentials, server: (&str, u16), directory: &Path) -> Result<Self> {
        let (host, port) = server;
        let mut command = Command::new("python3");
        command
            .args(["-c", RELAY])
            .arg(&credentials.certificate)
            .arg(&credentials.private_key)
            .args([host, &port.to_string()]);
        let log = directory.join("relay.log");
        let mut daemon = Daemon::start(command, &log)?;
        let port = daemon.wait_until("it listens", READY_WITHIN, || {
            let said = fs::read_to_string(&log)?;
            let said = said.split_once("listening on ").context("not yet")?.1;
            let port = said.split_whitespace().next().context("not yet")?;
            Ok(port.parse()?)
        })?;
        Ok(Self {
            port,
            _daemon: daemon,
        })
    }
}
