//! The process, under the names that every Prometheus client library gives it. What proc(5) does not tell is left out.

use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

/// What proc(5) tells of this process, which started at that time.
pub fn registry(started: jiff::Timestamp) -> Registry {
    let mut registry = Registry::with_prefix("process");
    registry.register_with_unit(
        "start_time",
        "When the program started, in seconds since 1970",
        Unit::Seconds,
        ConstGauge::new(started.as_second()),
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (field, name, help) in [
        ("VmRSS:", "resident_memory", "Memory in RAM"),
        ("VmSize:", "virtual_memory", "Address space in use"),
    ] {
        if let Some(bytes) = bytes(&status, field) {
            registry.register_with_unit(name, help, Unit::Bytes, ConstGauge::new(bytes));
        }
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        let gauge = Gauge::<i64>::default();
        // One of them is the directory itself.
        gauge.set(i64::try_from(open.count()).unwrap_or(i64::MAX) - 1);
        registry.register("open_fds", "Open file descriptors", gauge);
    }
    registry
}

/// A field of /proc/self/status, which counts in units of 1024 bytes.
fn bytes(status: &str, field: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "VmSize:\t  1000 kB\nVmRSS:\t    12 kB\n";
        assert_eq!(bytes(status, "VmRSS:"), Some(12_288));
        assert_eq!(bytes("", "VmRSS:"), None);
    }
}
