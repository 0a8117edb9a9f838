//! Certificates are renewed while everything runs: no link breaks for it, and the next connection is made with the new ones. Those of
//! clients' connections are as well.
//!
//! The authority of all regions is changed as well, as one does it: first everybody believes both, then certificates of the new one
//! are given out. One of an authority that nobody knows is refused, said so, and replaced in the same way.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use meridian_tests::{Lab, Node, meridian, of_one_node, until, with_lab};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

/// The metrics that say when a certificate ends.
const END: &str = "meridian_certificate_end_timestamp_seconds{purpose=\"links\"}";
const END_FOR_CLIENTS: &str = "meridian_certificate_end_timestamp_seconds{purpose=\"clients\"}";

#[test]
fn renewed_certificates_are_taken_without_a_reconnect_and_used_at_the_next() {
    with_lab(&of_one_node(&["--regions=us-east,eu-west"]), |lab| {
        let [new, foreign] = [authority()?, authority()?];
        let ca = lab.dir.path().join("certs/ca.pem");
        let both = fs::read_to_string(&ca)? + &new.pem();
        let before = connects(lab)?;
        fs::write(&ca, both)?;
        for (region, year) in [("us-east", 2041), ("eu-west", 2042)] {
            certify(lab, &new, region, year)?;
            until_ends(lab.region(region), END, year)?;
        }
        ensure!(connects(lab)? == before, "links were made anew for it");
        lab.region("us-east").run::<()>(&["SET", "key", "by the former"])?;
        lab.region("eu-west").until_result(&["GET", "key"], &Some("by the former".to_owned()))?;
        // What is made from here on goes by the new ones.
        break_links(lab)?;
        lab.region("us-east").run::<()>(&["SET", "key", "by the new"])?;
        lab.region("eu-west").until_result(&["GET", "key"], &Some("by the new".to_owned()))?;
        // One that nobody believes.
        certify(lab, &foreign, "eu-west", 2043)?;
        until_ends(lab.region("eu-west"), END, 2043)?;
        break_links(lab)?;
        until("us-east turns it away", || {
            let refused = lab.region("us-east").metric("meridian_link_refused_total")?;
            let links = lab.region("us-east").status()?.links;
            ensure!(refused > 0.0 && links.incoming.iter().all(|link| !link.up), "{refused} refused, {links:?}");
            Ok(Some(()))
        })?;
        certify(lab, &new, "eu-west", 2044)?;
        lab.regions.iter().try_for_each(|region| region.until_linked())
    });
}

#[test]
fn clients_over_tls_are_shown_the_renewed_certificate() -> Result<()> {
    let files = tempfile::tempdir()?;
    let [former, new] = [authority()?, authority()?];
    let [cert, key, ca] = ["cert.pem", "key.pem", "ca.pem"].map(|name| files.path().join(name));
    certify_host(&former, [&cert, &key], 2041)?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let listen = format!("--node-set=us-east:tls.listen={port}");
    let [set_cert, set_key] = [("cert", &cert), ("key", &key)]
        .map(|(name, file)| format!("--node-set=us-east:tls.{name}={}", file.display()));
    with_lab(&of_one_node(&["--regions=us-east,eu-west", &listen, &set_cert, &set_key]), |lab| {
        let node = lab.region("us-east");
        let asks = |by: &CertifiedIssuer<'static, KeyPair>| -> Result<bool> {
            fs::write(&ca, by.pem())?;
            let mut command = Command::new(meridian()?);
            command.args(["region", "status", "--json", "--nodes", &port.to_string(), "--tls-ca"]).arg(&ca);
            Ok(command.stdin(Stdio::null()).output()?.status.success())
        };
        ensure!(asks(&former)? && !asks(&new)?, "it is not served under the first certificate");
        until_ends(node, END_FOR_CLIENTS, 2041)?;
        certify_host(&new, [&cert, &key], 2042)?;
        until_ends(node, END_FOR_CLIENTS, 2042)?;
        ensure!(asks(&new)? && !asks(&former)?, "it is not served under the renewed certificate");
        // One that does not go with its key is left alone.
        let served = fs::read(&cert)?;
        certify_host(&former, [&cert, &files.path().join("other.key")], 2043)?;
        ensure!(asks(&new)?, "what cannot be used was taken");
        fs::write(&cert, served)?;
        Ok(())
    });
    Ok(())
}

/// An authority for certificates of regions.
fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// Replaces the certificate of a region and its key, one after the other, by one that ends with the beginning of a year.
fn certify(lab: &Lab, by: &CertifiedIssuer<'static, KeyPair>, region: &str, year: i32) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![format!("{region}.region.meridian")])?;
    params.not_after = date_time_ymd(year, 1, 1);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let file = |ending: &str| -> PathBuf { lab.dir.path().join(format!("certs/{region}.{ending}")) };
    fs::write(file("key"), key.serialize_pem())?;
    fs::write(file("pem"), params.signed_by(&key, by)?.pem())?;
    Ok(())
}

/// Replaces a certificate for clients on this machine and its key by one that ends with the beginning of a year.
fn certify_host(by: &CertifiedIssuer<'static, KeyPair>, [cert, key]: [&Path; 2], year: i32) -> Result<()> {
    let pair = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![Ipv4Addr::LOCALHOST.to_string()])?;
    params.not_after = date_time_ymd(year, 1, 1);
    fs::write(key, pair.serialize_pem())?;
    Ok(fs::write(cert, params.signed_by(&pair, by)?.pem())?)
}

fn until_ends(node: &Node, metric: &str, year: i32) -> Result<()> {
    let end = date_time_ymd(year, 1, 1).unix_timestamp() as f64;
    until(&format!("{} has a certificate until {year}", node.name), || {
        let now = node.metric(metric)?;
        ensure!(now == end, "it ends at {now} instead of {end}");
        Ok(Some(()))
    })
}

/// How often links were made, anywhere.
fn connects(lab: &Lab) -> Result<f64> {
    let connects = lab.regions.iter().map(|region| region.metric("meridian_link_connects_total"));
    connects.sum::<Result<f64>>().context("no count of connections")
}

/// Breaks all connections between the regions, and lets new ones be made.
fn break_links(lab: &Lab) -> Result<()> {
    let before = connects(lab)?;
    for state in ["reset", "up"] {
        for (from, to) in [("us-east", "eu-west"), ("eu-west", "us-east")] {
            lab.wan.change(from, to, &serde_json::json!({ "state": state }))?;
        }
    }
    until("links were broken", || {
        let down = lab
            .regions
            .iter()
            .any(|region| region.status().is_ok_and(|status| status.links.out.iter().any(|link| !link.up)));
        Ok((down || connects(lab)? > before).then_some(()))
    })
}
