//! Single values of annotations and settings: what cannot work is refused here, with what would. Called by `annotations`,
//! `decision` and `settings`. What passes is understood by the proxy's own command line, where wrong values would end it.

use std::net::IpAddr;

/// As many ports or ranges as the redirection takes in one list.
const LONGEST_LIST: usize = 200;

/// For a message: in quotes and not endless.
pub(super) fn shown(text: &str) -> String {
    let mut start: String = text.chars().take(60).collect();
    if start.len() < text.len() {
        start.push_str("...");
    }
    format!("{start:?}")
}

/// Everything that Istio takes for true or false.
pub(super) fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "y" | "on" => Ok(true),
        "false" | "no" | "n" | "off" => Ok(false),
        _ => Err(format!("{} is neither \"true\" nor \"false\"", shown(text))),
    }
}

/// `100m`, `0.5`, `64Mi`, `1e3`: as the Kubernetes API takes it, without a sign.
pub(super) fn quantity(text: &str) -> Result<String, String> {
    let number_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_end);
    let is_number = number.parse::<f64>().is_ok() && !number.starts_with('.') && !number.ends_with('.');
    let exponent = suffix
        .strip_prefix(['e', 'E'])
        .map(|digits| digits.trim_start_matches(['-', '+']));
    let is_exponent =
        exponent.is_some_and(|digits| (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()));
    let is_unit = UNITS.iter().any(|(unit, _)| *unit == suffix);
    if !(is_number && number.len() <= 20 && (is_unit || is_exponent)) {
        return Err(format!("{} is not a quantity such as 100m or 64Mi", shown(text)));
    }
    if amount(text) > MOST {
        return Err(format!("{} is more than any machine has: at most 1Pi", shown(text)));
    }
    Ok(text.to_owned())
}

/// No sidecar needs more of anything.
const MOST: f64 = 1_125_899_906_842_624.0;

const UNITS: [(&str, f64); 16] = [
    ("", 1.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
];

/// How much a quantity is, to compare it with others. Infinite, where it is none.
pub(super) fn amount(quantity: &str) -> f64 {
    let number_end = quantity.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, suffix) = quantity.split_at(number_end.unwrap_or(quantity.len()));
    let unit = UNITS.iter().find(|(unit, _)| *unit == suffix);
    let (number, factor) = match unit {
        Some((_, factor)) => (number, *factor),
        None => (quantity, 1.0),
    };
    number.parse::<f64>().map_or(f64::INFINITY, |number| number * factor)
}

/// Where to pull an image from.
pub(super) fn image(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte);
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    if bytes.len() <= 512 && bytes.iter().all(|byte| good(*byte)) && ends(bytes.first()) && ends(bytes.last()) {
        Ok(text.to_owned())
    } else {
        Err(format!("{} is not the name of an image", shown(text)))
    }
}

/// A level, or several with a module before each but the first. Istio's words for levels are taken for ours.
pub(super) fn log_level(text: &str) -> Result<String, String> {
    let parts: Result<Vec<String>, String> = text.split(',').map(|part| log_level_part(part, text)).collect();
    parts.map(|parts| parts.join(","))
}

fn log_level_part(part: &str, whole: &str) -> Result<String, String> {
    let (module, level) = part
        .split_once(['='])
        .map_or(("", part), |(module, level)| (module, level));
    let level = match level {
        "off" | "none" => "off",
        "error" | "critical" => "error",
        "warn" | "warning" => "warn",
        "info" => "info",
        "debug" => "debug",
        "trace" => "trace",
        _ => {
            let reason =
                "is not a level: off, error, warn, info, debug or trace, also by module: info,tsunagi_proxy=debug";
            return Err(format!("{} {reason}", shown(whole)));
        }
    };
    let is_module = module
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte));
    match (is_module, module) {
        (false, _) => Err(format!("{} is not the name of a module", shown(module))),
        (true, "") => Ok(level.to_owned()),
        (true, module) => Ok(format!("{module}={level}")),
    }
}

/// As Go writes durations: a number with its unit, or several, fractions too. What has no fraction of a millisecond and
/// is whole passes as it is, everything else as milliseconds, which the proxy takes.
pub(super) fn duration(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "{} is not a duration: write 500ms, 1.5s, 30s, 5m, 1h or 1m30s",
            shown(text)
        )
    };
    let (mut rest, mut milliseconds, mut is_plain) = (text, 0.0, !text.is_empty());
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let digits = rest.find(|c| !is_number(c)).ok_or_else(wrong)?;
        let (number, behind) = rest.split_at(digits);
        let (unit, next) = behind.split_at(behind.find(is_number).unwrap_or(behind.len()));
        let factor = match unit {
            "ns" => 1e-6,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-3,
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 60e3,
            "h" => 3_600e3,
            _ => return Err(wrong()),
        };
        is_plain &= !number.contains('.') && factor >= 1.0;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || whole.len() > 6 || fraction.len() > 9 {
            return Err(wrong());
        }
        milliseconds += number.parse::<f64>().map_err(|_| wrong())? * factor;
        rest = next;
    }
    match (text.is_empty(), is_plain) {
        (true, _) => Err(wrong()),
        (false, true) => Ok(text.to_owned()),
        (false, false) => Ok(format!("{:.0}ms", milliseconds.ceil())),
    }
}

/// Of one pod.
const MOST_CREDENTIALS: usize = 64;

/// Names of Secrets.
pub(super) fn credentials(text: &str) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = text
        .split(',')
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_name = |name: &str| {
        let inner = name.bytes().all(|byte| plain(byte) || matches!(byte, b'-' | b'.'));
        let ends = [name.bytes().next(), name.bytes().last()];
        name.len() <= 253 && inner && ends.into_iter().flatten().all(plain) && !name.contains("..")
    };
    if let Some(name) = names.iter().find(|name| !is_name(name)) {
        return Err(format!("{} is not the name of a Secret", shown(name)));
    }
    names.sort();
    names.dedup();
    if names.len() > MOST_CREDENTIALS {
        return Err(format!("names more than {MOST_CREDENTIALS} Secrets"));
    }
    Ok(names)
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(format!("{} is not a port: 1 to 65535", shown(text))),
    }
}

/// Ports with commas between; blanks and nothing at all are fine.
pub(super) fn ports(text: &str) -> Result<String, String> {
    list(text, |item| port(item).map(|port| port.to_string()))
}

pub(super) fn ports_or_all(text: &str) -> Result<String, String> {
    if text.trim() == "*" {
        Ok("*".to_owned())
    } else {
        ports(text)
    }
}

pub(super) fn ranges(text: &str) -> Result<String, String> {
    list(text, |item| range(item).map(|()| item.to_owned()))
}

pub(super) fn ranges_or_all(text: &str) -> Result<String, String> {
    if text.trim() == "*" {
        Ok("*".to_owned())
    } else {
        ranges(text)
    }
}

/// User ids, with which a process is let past the sidecar.
pub(super) fn uids(text: &str) -> Result<String, String> {
    list(text, |item| match item.parse::<u32>() {
        Ok(uid) if uid < u32::MAX => Ok(uid.to_string()),
        _ => Err(format!("{} is not a user id", shown(item))),
    })
}

pub(super) fn range(text: &str) -> Result<(), String> {
    let wrong = || format!("{} is not an address range such as 10.0.0.0/8", shown(text));
    let (address, length) = text.split_once('/').ok_or_else(wrong)?;
    let longest = match address.parse::<IpAddr>().map_err(|_| wrong())? {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    match length.parse::<u8>() {
        Ok(length) if length <= longest => Ok(()),
        _ => Err(wrong()),
    }
}

fn list(text: &str, one: impl Fn(&str) -> Result<String, String>) -> Result<String, String> {
    let items: Vec<&str> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    if items.len() > LONGEST_LIST {
        return Err(format!("more than {LONGEST_LIST} entries"));
    }
    let items: Result<Vec<String>, String> = items.into_iter().map(one).collect();
    items.map(|items| items.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for good in ["1", "0.5", "100m", "64Mi", "1e3", "2G", "1Pi", "128974848"] {
            assert_eq!(quantity(good).as_deref(), Ok(good));
        }
        for bad in [
            "", "-1", "10 m", "64mi", "1.", ".5", "1e", "1e999", "m", "1.2.3", "1e99", "1e16", "2E", "2Pi",
        ] {
            assert!(quantity(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn quantities_are_compared_by_what_they_are() {
        for (less, more) in [
            ("100m", "0.5"),
            ("999k", "1M"),
            ("1M", "1Mi"),
            ("64Mi", "1e8"),
            ("1e-3", "2m"),
        ] {
            assert!(amount(less) < amount(more), "{less} {more}");
        }
    }

    #[test]
    fn lists_lose_their_blanks_and_keep_their_order() {
        assert_eq!(ports(" 80 , 443,").as_deref(), Ok("80,443"));
        assert_eq!(ports("").as_deref(), Ok(""));
        assert_eq!(ports_or_all("*").as_deref(), Ok("*"));
        assert_eq!(ranges("10.0.0.0/8,fd00::/8").as_deref(), Ok("10.0.0.0/8,fd00::/8"));
        for bad in ["0", "65536", "80-90", "+80", "http"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
        for bad in ["10.0.0.0", "10.0.0.0/33", "fd00::/129", "a/8", "*"] {
            assert!(ranges(bad).is_err(), "{bad}");
        }
        assert!(ports(&"80,".repeat(LONGEST_LIST + 1)).is_err());
    }

    #[test]
    fn durations_and_levels_are_those_of_the_proxy() {
        for good in ["500ms", "30s", "1m30s", "1h"] {
            assert_eq!(duration(good).as_deref(), Ok(good));
        }
        for (gos, ours) in [
            ("1.5s", "1500ms"),
            ("1m0.25s", "60250ms"),
            (".5h", "1800000ms"),
            ("10us", "1ms"),
        ] {
            assert_eq!(duration(gos).as_deref(), Ok(ours));
        }
        for bad in [
            "",
            "30",
            "s",
            ".s",
            "1.2.3s",
            "-1s",
            "3 s",
            "1d",
            "99999999999h",
            "5ß",
            "1.s5",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(log_level("warning").as_deref(), Ok("warn"));
        assert_eq!(
            log_level("info,tsunagi_proxy::xds=debug").as_deref(),
            Ok("info,tsunagi_proxy::xds=debug")
        );
        for bad in ["", "loud", "a b=info", "info,", "x=loud"] {
            assert!(log_level(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_image_is_a_reference() {
        for good in ["tsunagi-proxy", "example.org/a/b:1.2", "localhost:5000/x@sha256:abc"] {
            assert!(image(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "-a", "a:", "a\nb", "$(X)"] {
            assert!(image(bad).is_err(), "{bad}");
        }
    }
}
