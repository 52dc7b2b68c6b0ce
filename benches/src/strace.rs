//! Reads the table that `strace -c` prints. Called by the ledger.

/// System calls by name, and how often each was made.
pub fn calls(output: &str) -> Vec<(&str, u64)> {
    let rows = output.lines().filter_map(|line| {
        // % time, seconds, usecs/call, calls, perhaps errors, syscall
        let fields: Vec<&str> = line.split_whitespace().collect();
        let name = *fields.last().filter(|name| **name != "total")?;
        fields.first()?.parse::<f64>().ok()?;
        Some((name, fields.get(3)?.parse().ok()?))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::calls;

    #[test]
    fn calls_are_read_with_and_without_errors_and_the_sum_is_left_out() {
        let output = "strace: Process 7 attached with 2 threads
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 71.93    1.038293          12     84230           sendto
 26.18    0.377904           4     84321        91 recvfrom
  0.00    0.000010          10         1           restart_syscall
------ ----------- ----------- --------- --------- ----------------
100.00    1.443404           8    168552        91 total
strace: Process 7 detached";
        let expected = [("sendto", 84230), ("recvfrom", 84321), ("restart_syscall", 1)];
        assert_eq!(calls(output), expected);
    }
}
