//! Reads what load generators print: `wrk --latency`, and `h2load` with its `--log-file`. Anything but complete success
//! is an error: a round with failed requests measures something else. Called by the benchmark `compare`.

use std::time::Duration;

use crate::percentile;

/// What one run of a load generator achieved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tally {
    pub requests: u64,
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
}

/// The output of `wrk --latency`.
pub fn wrk(output: &str) -> Result<Tally, String> {
    for line in output.lines() {
        if line.contains("Socket errors:") || line.contains("Non-2xx") {
            return Err(format!("wrk saw failures: {}", line.trim()));
        }
    }
    let after = |label: &str| {
        let line = output.lines().find_map(|line| line.trim().strip_prefix(label));
        line.map(str::trim)
            .ok_or(format!("wrk did not print `{label}`:\n{output}"))
    };
    let requests = output.lines().find_map(|line| line.split_once(" requests in "));
    let requests = requests.and_then(|(count, _)| count.trim().parse().ok());
    Ok(Tally {
        requests: requests.ok_or(format!("wrk did not count requests:\n{output}"))?,
        per_second: number(after("Requests/sec:")?)?,
        p50: duration(after("50%")?)?,
        p99: duration(after("99%")?)?,
    })
}

/// What `h2load` printed, without the times: these are in its log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct H2load {
    pub requests: u64,
    pub per_second: f64,
    /// Of all DATA frames.
    pub body_bytes: u64,
}

/// The output of `h2load`.
pub fn h2load(output: &str) -> Result<H2load, String> {
    let line = |label: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(label));
        line.ok_or(format!("h2load did not print `{label}`:\n{output}"))
    };
    let requests = line("requests:")?;
    let codes = line("status codes:")?;
    let failed = ["failed", "errored", "timeout"].map(|what| counted(requests, what));
    let other = ["3xx", "4xx", "5xx"].map(|what| counted(codes, what));
    if failed.iter().chain(&other).any(|count| *count != Some(0)) {
        return Err(format!("h2load saw failures: {requests};{codes}"));
    }
    let rate = line("finished in")?.split(',').nth(1).unwrap_or_default();
    let traffic = line("traffic:")?.rsplit('(').next().unwrap_or_default();
    Ok(H2load {
        requests: counted(requests, "succeeded").ok_or("h2load did not count requests")?,
        per_second: number(rate.trim().trim_end_matches(" req/s"))?,
        body_bytes: counted(&traffic.replace(") ", " "), "data").ok_or("h2load did not count bytes")?,
    })
}

/// p50 and p99 of the log that `h2load --log-file` wrote: start, status code, microseconds.
pub fn h2load_times(log: &str) -> Result<(Duration, Duration), String> {
    let micros = log.lines().map(|line| line.split('\t').nth(2)?.parse().ok());
    let times: Option<Vec<Duration>> = micros.map(|time| time.map(Duration::from_micros)).collect();
    let mut times = times.ok_or("h2load wrote a log that has other columns")?;
    if times.is_empty() {
        return Err("h2load logged no request".to_owned());
    }
    Ok((percentile(&mut times, 0.5), percentile(&mut times, 0.99)))
}

/// The number before `what` in a list like `8 total, 8 done`.
fn counted(list: &str, what: &str) -> Option<u64> {
    let mut items = list.split(',').filter_map(|item| item.trim().split_once(' '));
    items.find(|(_, name)| *name == what)?.0.parse().ok()
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number"))
}

/// `41.00us`, `1.02ms`, `2.00s`, `1.00m`.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (value, unit) = text.split_at(split);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(format!("`{text}` is not a time")),
    };
    Ok(Duration::from_secs_f64(number(value)? * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 3s test @ http://127.0.0.1:20000/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.14ms  400.10us  12.30ms   90.11%
    Req/Sec    56.10k     2.10k   60.00k    70.00%
  Latency Distribution
     50%    1.07ms
     75%    1.31ms
     90%    1.55ms
     99%  980.00us
  168123 requests in 3.00s, 198.01MB read
Requests/sec:  56030.12
Transfer/sec:     65.99MB
";
    const H2LOAD: &str = "starting benchmark...
finished in 3.01s, 45000.67 req/s, 46.71MB/s
requests: 135002 total, 135162 started, 135002 done, 135002 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 135002 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 140.14MB (146950000) total, 3.09MB (3240048) headers (space savings 82.35%), 131.84MB (138242048) data
                     min         max         mean         sd        +/- sd
time for request:      210us     20.11ms      3.50ms       900us    80.00%
";

    #[test]
    fn what_wrk_prints_is_read() {
        let tally = wrk(WRK).unwrap();
        assert_eq!((tally.requests, tally.per_second), (168_123, 56_030.12));
        assert_eq!(tally.p50, Duration::from_micros(1070));
        assert_eq!(tally.p99, Duration::from_micros(980));
    }

    #[test]
    fn failures_that_wrk_saw_are_errors() {
        assert!(wrk(&format!("{WRK}  Non-2xx or 3xx responses: 1\n")).is_err());
        assert!(
            wrk(&format!(
                "{WRK}  Socket errors: connect 0, read 1, write 0, timeout 0\n"
            ))
            .is_err()
        );
        assert!(wrk("unable to connect").is_err());
    }

    #[test]
    fn what_h2load_prints_is_read() {
        let tally = h2load(H2LOAD).unwrap();
        assert_eq!((tally.requests, tally.per_second), (135_002, 45_000.67));
        assert_eq!(tally.body_bytes, 138_242_048);
    }

    #[test]
    fn failures_that_h2load_saw_are_errors() {
        for (good, bad) in [("0 failed", "1 failed"), ("0 errored", "1 errored"), ("0 5xx", "1 5xx")] {
            assert!(h2load(&H2LOAD.replace(good, bad)).is_err(), "{bad}");
        }
        assert!(h2load("").is_err());
    }

    #[test]
    fn the_log_of_h2load_has_percentiles() {
        let log: String = (1..=100).map(|time| format!("1700000000\t200\t{time}\n")).collect();
        let expected = (Duration::from_micros(50), Duration::from_micros(99));
        assert_eq!(h2load_times(&log), Ok(expected));
        assert!(h2load_times("1700000000\t200\n").is_err());
        assert!(h2load_times("").is_err());
    }
}
