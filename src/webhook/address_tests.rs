//! Where a webhook may go, and where not.

use super::*;

fn open(networks: &[&str]) -> Networks {
    Networks(networks.iter().map(|network| network.parse().unwrap()).collect())
}

#[test]
fn a_url_that_leads_to_a_host_that_is_not_public_is_refused_however_it_is_written() {
    let nowhere = Networks::default();
    for url in [
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://127.0.0.1.:443/",
        "https://0/",
        "https://[::1]/",
        "https://[::]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:8.8.8.8]/",
        "https://[::127.0.0.1]/",
        "https://[64:ff9b::10.0.0.1]/",
        "https://[64:ff9b:1::1]/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://[ff02::1]/",
        "https://[2002:7f00:1::]/",
        "https://[2001:0:7f00:1::]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://0xa9fea9fe/",
        "https://2852039166/",
        "https://10.1.2.3/",
        "https://172.16.0.1/",
        "https://172.31.255.255/",
        "https://192.168.1.1/",
        "https://100.64.0.1/",
        "https://100.127.255.255/",
        "https://198.18.0.1/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://１２７.０.０.１/",
    ] {
        let told = nowhere.check_url(url);
        assert!(matches!(told, Err(AddressFault::Forbidden { .. })), "{url}: {told:?}");
    }
}

#[test]
fn a_url_that_hides_where_it_leads_or_is_not_protected_is_refused() {
    let nowhere = Networks::default();
    for (url, fault) in [
        ("https://example.com@127.0.0.1/", AddressFault::Credentials),
        ("https://user:password@example.com/", AddressFault::Credentials),
        ("https://example.com#@evil.example/", AddressFault::Fragment),
        ("http://example.com/", AddressFault::Unprotected),
        ("http://localhost/", AddressFault::Unprotected),
        ("ftp://example.com/", AddressFault::Unprotected),
        ("example.com", AddressFault::NotAUrl),
        ("file:///etc/passwd", AddressFault::NotAUrl),
        ("", AddressFault::NotAUrl),
    ] {
        assert_eq!(nowhere.check_url(url), Err(fault), "{url}");
    }
    // The first of two @ is part of the password, not the host.
    assert_eq!(
        nowhere.check_url("https://a@example.com@10.0.0.1/"),
        Err(AddressFault::Credentials)
    );
    // A backslash is a slash to who follows the URL standard, so this host is the first one.
    let read = nowhere.check_url("https://example.com\\@127.0.0.1/").unwrap();
    assert_eq!(read.host_str(), Some("example.com"));
}

#[test]
fn public_hosts_are_allowed() {
    let nowhere = Networks::default();
    for url in [
        "https://example.com/hook?key=1",
        "https://8.8.8.8/",
        "https://172.32.0.1:8443/",
        "https://100.128.0.1/",
        "https://[2606:4700::1111]/",
        "https://[64:ff9b::8.8.8.8]/",
    ] {
        assert!(nowhere.check_url(url).is_ok(), "{url}");
    }
}

#[test]
fn a_network_that_the_settings_name_is_open_also_without_tls_and_no_other_is() {
    let ours = open(&["127.0.0.0/8", "fd00::/16"]);
    for url in ["http://127.0.0.1:8099/", "https://127.1/", "http://[fd00::7]/"] {
        assert!(ours.check_url(url).is_ok(), "{url}");
    }
    for url in [
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://[fd01::7]/",
        "https://[::ffff:127.0.0.1]/",
    ] {
        assert!(ours.check_url(url).is_err(), "{url}");
    }
    // By its address only: what a name stands for may change between the look and the connection.
    assert_eq!(ours.check_url("http://localhost/"), Err(AddressFault::Unprotected));
}

struct Fixed(Vec<IpAddr>);

#[async_trait]
impl Names for Fixed {
    async fn addresses(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(self.0.clone())
    }
}

#[tokio::test]
async fn a_name_is_as_good_as_the_worst_of_its_addresses() {
    for (addresses, good) in [
        (vec!["8.8.8.8", "2606:4700::1111"], true),
        (vec!["10.0.0.1"], false),
        (vec!["8.8.8.8", "169.254.169.254"], false),
        (vec!["2606:4700::1111", "::ffff:127.0.0.1"], false),
        (vec![], false),
    ] {
        let names: Arc<dyn Names> = Arc::new(Fixed(addresses.iter().map(|a| a.parse().unwrap()).collect()));
        let told = resolve(&names, &Networks::default(), "example.com").await;
        assert_eq!(told.is_ok(), good, "{addresses:?}");
    }
}
