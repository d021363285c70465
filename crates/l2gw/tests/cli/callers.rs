//! Strangers at the door for switches: hundreds of them, each with as much as it may have.
#![expect(clippy::indexing_slicing, reason = "helpers of tests fail the test")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::ovsdb_server::OvsdbServer;
use testkit::port::free_port;

use crate::place::Place;

/// More than connections are served: twice the limit of known switches.
const STRANGERS: usize = 300;
const KNOWN: &str = "100";

/// What all callers may have, in bytes, and how much more the server may take: what stands beside it, and what the allocator
/// keeps for itself.
const MEMORY: u64 = 64 << 20;
const BESIDE: u64 = 64 << 20;

/// How long anything may take on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a stranger does.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// It begins a message and never ends it.
    Endless,
    /// It asks and reads no answer.
    Deaf,
    /// It says nothing at all.
    Mute,
    /// It says it is a switch, with more rows than there are.
    Huge,
}

const HABITS: [Habit; 4] = [Habit::Endless, Habit::Deaf, Habit::Mute, Habit::Huge];

/// The strangers' work, seen from outside.
#[derive(Default)]
struct Siege {
    over: AtomicBool,
    /// Bytes that the server took.
    taken: AtomicU64,
    closed: AtomicU64,
}

impl Siege {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Dials until it is over, again whenever it is closed.
    fn lay(&self, number: usize, port: u16) {
        let habit = HABITS[number % HABITS.len()];
        while !self.is_over() {
            if let Ok(stream) = TcpStream::connect(("::1", port)) {
                stream.set_write_timeout(Some(TICK)).unwrap();
                stream.set_read_timeout(Some(TICK)).unwrap();
                let _ = self.visit(stream, habit, number);
                self.closed.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn visit(&self, stream: TcpStream, habit: Habit, number: usize) -> std::io::Result<()> {
        match habit {
            Habit::Endless => {
                self.say(&stream, b"{\"id\":\"")?;
                self.repeat(&stream, &[b'x'; 64 << 10])
            }
            Habit::Deaf => {
                let ask = br#"{"id":1,"method":"echo","params":[]}"#.repeat(1000);
                self.repeat(&stream, &ask)
            }
            Habit::Mute => {
                self.hear(&stream)?;
                Ok(())
            }
            Habit::Huge => self.pose(&stream, number),
        }
    }

    fn repeat(&self, stream: &TcpStream, text: &[u8]) -> std::io::Result<()> {
        while !self.is_over() {
            self.say(stream, text)?;
        }
        Ok(())
    }

    /// Writes all of it, however long it takes.
    fn say(&self, mut stream: &TcpStream, mut text: &[u8]) -> std::io::Result<()> {
        while !text.is_empty() && !self.is_over() {
            match stream.write(text) {
                Ok(0) => break,
                Ok(more) => {
                    self.taken.fetch_add(more as u64, Ordering::Relaxed);
                    text = &text[more..];
                }
                Err(error) if is_tick(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for something to read; nothing when it is over.
    fn hear(&self, mut stream: &TcpStream) -> std::io::Result<Vec<u8>> {
        let mut heard = vec![0; 64 << 10];
        while !self.is_over() {
            match stream.read(&mut heard) {
                Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    heard.truncate(length);
                    return Ok(heard);
                }
                Err(error) if is_tick(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Vec::new())
    }

    /// Answers as a switch does, and goes on with row after row.
    fn pose(&self, stream: &TcpStream, number: usize) -> std::io::Result<()> {
        let schema = std::fs::read_to_string("/usr/share/openvswitch/vtep.ovsschema")?;
        let schema: Value = serde_json::from_str(&schema)?;
        let mut unread = Vec::new();
        while !self.is_over() {
            unread.extend(self.hear(stream)?);
            let mut requests = serde_json::Deserializer::from_slice(&unread).into_iter::<Value>();
            let mut asked = Vec::new();
            let mut end = 0;
            while let Some(Ok(request)) = requests.next() {
                asked.push(request);
                end = requests.byte_offset();
            }
            unread.drain(..end);
            for request in asked {
                let result = match request["method"].as_str().unwrap_or_default() {
                    "list_dbs" => json!(["hardware_vtep"]),
                    "get_schema" => schema.clone(),
                    "monitor_cond_since" if request["params"][2].get("Global").is_some() => {
                        return self.show_all(stream, &request);
                    }
                    "monitor_cond_since" => {
                        let name = format!("stranger{}", number % 50);
                        let row = json!({"initial": {"name": name}});
                        json!([false, "0", {"Physical_Switch": {uuid(0): row}}])
                    }
                    _ => Value::Null,
                };
                let answer = json!({"id": request["id"], "result": result, "error": null});
                self.say(stream, answer.to_string().as_bytes())?;
            }
        }
        Ok(())
    }

    fn show_all(&self, stream: &TcpStream, request: &Value) -> std::io::Result<()> {
        let id = &request["id"];
        let dump = rows(1..20_000, "initial");
        let answer = format!(r#"{{"id":{id},"result":[false,"0",{dump}],"error":null}}"#);
        self.say(stream, answer.as_bytes())?;
        for part in 1.. {
            let more = rows(part * 20_000..(part + 1) * 20_000, "insert");
            let monitor = &request["params"][1];
            let update =
                format!(r#"{{"id":null,"method":"update3","params":[{monitor},"0",{more}]}}"#);
            self.say(stream, update.as_bytes())?;
            if self.is_over() {
                break;
            }
        }
        Ok(())
    }
}

/// After so long strangers look whether it is over.
const TICK: Duration = Duration::from_millis(200);

fn is_tick(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut)
}

fn uuid(number: u32) -> String {
    format!("00000000-0000-0000-0000-{number:012x}")
}

/// As many rows as go into a message: empty ones.
fn rows(numbers: std::ops::Range<u32>, change: &str) -> String {
    let rows: Vec<_> = numbers
        .map(|number| format!(r#""{}":{{"{change}":{{}}}}"#, uuid(number)))
        .collect();
    format!(r#"{{"Ucast_Macs_Local":{{{}}}}}"#, rows.join(","))
}

fn vtep_ctl(switch: &OvsdbServer, words: &[&str]) -> String {
    let mut command = Command::new("vtep-ctl");
    command.arg(format!("--db={}", switch.unix_target()));
    let output = command.args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn hundreds_of_strangers_take_neither_the_memory_nor_a_switchs_place() {
    let (for_switches, for_strangers) = (free_port().unwrap(), free_port().unwrap());
    let place = Place::with(|_| {
        [
            format!("--ovsdb-listen=ptcp:{for_switches}:127.0.0.1"),
            format!("--ovsdb-listen=ptcp:{for_strangers}:[::1]"),
            format!("--ovsdb-listen-memory={MEMORY}"),
            format!("--ovsdb-listen-limit={KNOWN}"),
        ]
        .map(Into::into)
        .into()
    });
    let before = place.memory();
    let network = place.value(&["network", "create", "blue"], "id");
    let device = "name=tor1,interface_names=p1";
    place.succeed(&["l2-gateway-create", "gw", "--device", device]);
    let mut switch = OvsdbServer::start().unwrap();
    vtep_ctl(&switch, &["add-ps", "tor1", "--", "add-port", "tor1", "p1"]);
    let is_programmed = |switch: &OvsdbServer| vtep_ctl(switch, &["list-ls"]).contains(&network);

    let siege = Siege::default();
    std::thread::scope(|scope| {
        for number in 0..STRANGERS {
            let siege = &siege;
            scope.spawn(move || siege.lay(number, for_strangers));
        }
        // Whatever fails ends the siege.
        let over = Over(&siege);
        until("the strangers are not closed", || {
            siege.closed.load(Ordering::Relaxed) > STRANGERS as u64
                && siege.taken.load(Ordering::Relaxed) > 4 * MEMORY
        });
        let manager = format!("--remote=tcp:127.0.0.1:{for_switches}");
        let begun = Instant::now();
        switch.restart_with([manager]).unwrap();
        until("the switch is not known", || {
            place.succeed(&["device", "list"]).contains("tor1")
        });
        let options = ["--default-segmentation-id", "0"];
        let connect = [
            &["l2-gateway-connection-create", "gw", "blue"],
            &options[..],
        ]
        .concat();
        place.succeed(&connect);
        until("the switch is not programmed", || is_programmed(&switch));
        let programmed = begun.elapsed();
        drop(over);
        let taken = siege.taken.load(Ordering::Relaxed) >> 20;
        let closed = siege.closed.load(Ordering::Relaxed);
        println!(
            "{taken} MiB from strangers, {closed} closed; switch programmed in {programmed:?}"
        );
    });
    let grown = place.peak_memory().saturating_sub(before);
    println!("the server grew by {} MiB at most", grown >> 20);
    assert!(grown < MEMORY + BESIDE, "it grew by {grown} bytes");
}

struct Over<'s>(&'s Siege);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}
