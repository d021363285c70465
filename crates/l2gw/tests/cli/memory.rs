//! What many clients cost the server's memory, whatever they are up to.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::place::Place;

const CLIENTS: usize = 1000;

/// What an idle connection may take of the server, in bytes: buffers and what it knows of its client.
const IDLE: u64 = 48 << 10;

/// How long anything may take on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

fn connected(place: &Place) -> TcpStream {
    let address = place.endpoint.strip_prefix("http://").unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn a_thousand_clients_that_were_answered_and_stay_take_little() {
    let place = Place::new();
    let before = place.memory();
    let idle: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = connected(&place);
            let asked = b"GET /v2.0/networks HTTP/1.1\r\nHost: x\r\n\r\n";
            client.write_all(asked).unwrap();
            let answered = client.read(&mut [0; 4096]).unwrap();
            assert!(answered > 0);
            client
        })
        .collect();
    let each = place.memory().saturating_sub(before) / idle.len() as u64;
    println!("an idle connection takes {each} bytes");
    assert!(each <= IDLE, "{each} bytes each");
}

/// Each announces a body of 32 MB, together more than two hundred times what all may take, and sends what the sockets hold.
#[test]
fn a_thousand_large_bodies_at_once_do_not_take_the_memory() {
    let size = 32 << 20;
    let sent = 256 << 10;
    let place = Place::with(|_| ["--body-total-limit", "134217728"].map(Into::into).into());
    let before = place.memory();
    let head = format!("POST /v2.0/networks HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n");
    let part = vec![b' '; sent];
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = connected(&place);
            client.write_all(head.as_bytes()).unwrap();
            client.set_nonblocking(true).unwrap();
            (client, 0)
        })
        .collect();
    // Whoever is read gets rid of its part; the others of what fits into the sockets' buffers.
    let (mut taken, mut quiet) = (0, Instant::now());
    while quiet.elapsed() < Duration::from_secs(1) {
        for (client, written) in &mut clients {
            match client.write(&part[*written..]) {
                Ok(more) if more > 0 => {
                    *written += more;
                    taken += more;
                    quiet = Instant::now();
                }
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
        }
    }
    let grown = place.memory().saturating_sub(before);
    println!("clients sent {taken} bytes, the server grew by {grown}");
    assert!(taken > CLIENTS * sent / 4, "only {taken} bytes were sent");
    assert!(grown < 96 << 20, "the server grew by {grown} bytes");
    // Beside them all else goes on.
    place.succeed(&["network", "create", "net1"]);
    // And when they are gone, there is room again.
    drop(clients);
    let mut client = connected(&place);
    let whole = head.replace("Host: x", "Host: x\r\nConnection: close");
    client.write_all(whole.as_bytes()).unwrap();
    client.write_all(&vec![b' '; size]).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}
