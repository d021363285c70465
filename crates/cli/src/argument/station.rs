//! The specification's `<MAC-IP>`: `MAC[;IP]`. A comma is as good as the semicolon, which shells need quoted.

use thiserror::Error;

/// A remote host as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Station {
    /// Its MAC address.
    pub mac: String,
    /// Its IP address.
    pub ip: Option<String>,
}

/// A text that is no `MAC[;IP]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadStation {
    /// Nothing before the separator.
    #[error("the MAC address is empty; the form is MAC, MAC;IP or MAC,IP")]
    NoMac,
    /// Nothing behind the separator.
    #[error("the IP address behind the separator is empty; the form is MAC, MAC;IP or MAC,IP")]
    NoIp,
    /// More than one separator.
    #[error("there is more than a MAC and an IP address; the form is MAC, MAC;IP or MAC,IP")]
    More,
}

/// Splits `MAC[;IP]` or `MAC[,IP]`.
///
/// # Errors
/// A part is empty, or there are more than two.
pub fn parse(text: &str) -> Result<Station, BadStation> {
    let mut parts = text.split([';', ',']).map(str::trim);
    let mac = parts.next().unwrap_or_default();
    let ip = parts.next();
    if parts.next().is_some() {
        return Err(BadStation::More);
    }
    match (mac, ip) {
        ("", _) => Err(BadStation::NoMac),
        (_, Some("")) => Err(BadStation::NoIp),
        (mac, ip) => Ok(Station {
            mac: mac.to_owned(),
            ip: ip.map(str::to_owned),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn station(mac: &str, ip: Option<&str>) -> Result<Station, BadStation> {
        Ok(Station {
            mac: mac.to_owned(),
            ip: ip.map(str::to_owned),
        })
    }

    #[test]
    fn the_address_stands_behind_a_semicolon_or_comma_or_is_left_out() {
        let mac = "00:11:22:33:44:55";
        assert_eq!(parse(mac), station(mac, None));
        for separator in [";", ",", "; ", " , "] {
            for ip in ["1.2.3.4", "2001:db8::1"] {
                let text = format!("{mac}{separator}{ip}");
                assert_eq!(parse(&text), station(mac, Some(ip)), "{text}");
            }
        }
    }

    #[test]
    fn empty_and_superfluous_parts_are_refused() {
        assert_eq!(parse(""), Err(BadStation::NoMac));
        assert_eq!(parse(";1.2.3.4"), Err(BadStation::NoMac));
        assert_eq!(parse("00:11:22:33:44:55;"), Err(BadStation::NoIp));
        assert_eq!(parse("00:11:22:33:44:55,"), Err(BadStation::NoIp));
        assert_eq!(parse("00:11:22:33:44:55;1.2.3.4;"), Err(BadStation::More));
    }
}
