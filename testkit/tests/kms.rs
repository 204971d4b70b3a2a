//! An administrator's calls do to each service what they say.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use testkit::kms::{KeyService, Login, Place};

#[test]
#[ignore = "needs the Python environment: ./dev test"]
fn vault_rotates_retires_disables_and_keeps_to_policies() {
    let vault = KeyService::start(Place::OpenBao).unwrap();
    let uri = vault.uri("k");
    vault.call("POST", "transit/keys/k", &json!({ "derived": true })).unwrap();
    let state = || vault.call("GET", "transit/keys/k", &Value::Null).unwrap()["data"].take();
    vault.rotate(&uri).unwrap();
    assert_eq!((&state()["latest_version"], &state()["min_decryption_version"]), (&json!(2), &json!(1)));
    vault.retire_older(&uri).unwrap();
    assert_eq!(state()["min_decryption_version"], 2);
    vault.set_enabled(&uri, false).unwrap();
    assert_eq!(state()["soft_deleted"], true);
    vault.set_enabled(&uri, true).unwrap();
    let token = vault.log_in_with("path \"transit/keys/k\" { capabilities = [\"read\"] }").unwrap();
    let Login::Token(token) = token else { panic!("it is no token") };
    let looked = vault.call("POST", "auth/token/lookup", &json!({ "token": token })).unwrap();
    assert_eq!(looked["data"]["policies"].as_array().unwrap().len(), 1);
}

#[test]
#[ignore = "needs the Python environment: ./dev test"]
fn aws_points_aliases_to_new_keys() {
    let moto = KeyService::start(Place::Moto).unwrap();
    let key = moto.call("CreateKey", "", &json!({})).unwrap()["KeyMetadata"]["KeyId"].take();
    moto.call("CreateAlias", "", &json!({ "AliasName": "alias/k", "TargetKeyId": key })).unwrap();
    let (uri, state) = (moto.uri("k"), |key: &Value| {
        moto.call("DescribeKey", "", &json!({ "KeyId": key })).unwrap()["KeyMetadata"]["KeyState"].take()
    });
    moto.rotate(&uri).unwrap();
    assert_eq!((state(&key), state(&json!("alias/k"))), (json!("Enabled"), json!("Enabled")));
    moto.retire_older(&uri).unwrap();
    assert_eq!((state(&key), state(&json!("alias/k"))), (json!("Disabled"), json!("Enabled")));
    moto.set_enabled(&uri, false).unwrap();
    assert_eq!(state(&json!("alias/k")), "Disabled");
}

#[test]
fn google_and_azure_disable_older_versions() {
    for place in [Place::FakeGoogle, Place::FakeAzure] {
        let service = KeyService::start(place).unwrap();
        let uri = service.make_pair("k").unwrap();
        service.rotate(&uri).unwrap();
        assert_eq!(enabled(&service), [true, true], "{place:?}");
        service.retire_older(&uri).unwrap();
        let mut states = enabled(&service);
        states.sort_unstable();
        assert_eq!(states, [false, true], "{place:?}");
        service.set_enabled(&uri, false).unwrap();
        assert_eq!(enabled(&service), [false, false], "{place:?}");
        service.set_enabled(&uri, true).unwrap();
        assert_eq!(enabled(&service).iter().filter(|enabled| **enabled).count(), 1, "{place:?}");
    }
}

#[test]
fn what_a_service_refuses_is_an_error_with_its_words() {
    let google = KeyService::start(Place::FakeGoogle).unwrap();
    let error = google.rotate(&google.uri("missing")).unwrap_err();
    assert!(error.to_string().contains("not found"), "{error}");
    let error = google.log_in_with("").err().unwrap();
    assert!(error.to_string().contains("cannot enforce policies"), "{error}");
}

fn enabled(service: &KeyService) -> Vec<bool> {
    let (path, member) = match service.place() {
        Place::FakeAzure => ("keys/k/versions?api-version=7.4", "value"),
        _ => ("projects/p/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions", "cryptoKeyVersions"),
    };
    let answer = service.call("GET", path, &Value::Null).unwrap();
    let versions = answer[member].as_array().unwrap();
    versions.iter().map(|v| v["state"] == "ENABLED" || v["attributes"]["enabled"] == true).collect()
}
