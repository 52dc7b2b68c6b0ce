//! What the copy of a request is addressed to: its host says that it is a copy. Source: Envoy's shadow writer.

use super::redirect::split;

/// `-shadow` behind the host, before the port.
pub fn shadow_authority(authority: &str) -> String {
    match split(authority) {
        (host, Some(port)) => format!("{host}-shadow:{port}"),
        (host, None) => format!("{host}-shadow"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_stands_before_the_port() {
        for (sent, mirrored) in [
            ("users", "users-shadow"),
            ("users.shop:8080", "users.shop-shadow:8080"),
            ("[::1]", "[::1]-shadow"),
            ("[::1]:80", "[::1]-shadow:80"),
        ] {
            assert_eq!(shadow_authority(sent), mirrored);
        }
    }
}
