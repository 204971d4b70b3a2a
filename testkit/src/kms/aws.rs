//! AWS KMS. Keys are named by aliases, and a rotation points the alias to another key: AWS shows no other one.

use serde_json::{Value, json};

use super::{KeyService, Login, Server, cannot, text};
use crate::Error;
use crate::fake::lock;
use crate::http::Request;

pub(super) fn uri(account: &str, name: &str) -> String {
    format!("aws-kms://arn:aws:kms:eu-west-1:{account}:alias/{name}")
}

/// The emulators read region and service from the signature, and do not check it.
pub(super) fn headers(operation: &str) -> String {
    format!(
        "Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: TrentService.{operation}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-1/kms/aws4_request, SignedHeaders=host, \
         Signature=00\r\n"
    )
}

pub(super) fn make_pair(service: &KeyService, name: &str) -> Result<(), Error> {
    let key = make(service, &json!({ "KeyUsage": "ENCRYPT_DECRYPT", "KeySpec": "RSA_2048" }))?;
    let alias = json!({ "AliasName": alias(name), "TargetKeyId": key });
    service.call("CreateAlias", "", &alias).map(drop)
}

pub(super) fn rotate(service: &KeyService, name: &str) -> Result<(), Error> {
    let found = target(service, name)?;
    let kind = if found["KeySpec"] == "SYMMETRIC_DEFAULT" { "SYMMETRIC_DEFAULT" } else { "RSA_2048" };
    let next = make(service, &json!({ "KeyUsage": "ENCRYPT_DECRYPT", "KeySpec": kind }))?;
    service.call("UpdateAlias", "", &json!({ "AliasName": alias(name), "TargetKeyId": next }))?;
    lock(&service.former).push((name.to_owned(), text(&found, "/KeyId")?.to_owned()));
    Ok(())
}

pub(super) fn retire_older(service: &KeyService, name: &str) -> Result<(), Error> {
    for (_, key) in lock(&service.former).iter().filter(|(of, _)| of == name) {
        service.call("DisableKey", "", &json!({ "KeyId": key }))?;
    }
    Ok(())
}

pub(super) fn set_enabled(service: &KeyService, name: &str, enabled: bool) -> Result<(), Error> {
    let found = target(service, name)?;
    let operation = if enabled { "EnableKey" } else { "DisableKey" };
    service.call(operation, "", &json!({ "KeyId": found["KeyId"] })).map(drop)
}

/// Makes a user of IAM with this policy inline, and an access key for it.
pub(super) fn log_in_with(service: &KeyService, policy: &str) -> Result<Login, Error> {
    let Server::Emulator(emulator) = &service.server else { return Err(cannot(service.place, "have users")) };
    let user = crate::unique_name("user");
    let iam = |parameters: &[(&str, &str)]| {
        let headers = "Content-Type: application/x-www-form-urlencoded\r\n\
            Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, \
            Signature=00\r\n";
        let body: String =
            parameters.iter().map(|(name, value)| format!("{name}={}&", percent_encode(value))).collect();
        Request { method: "POST", path: "/", headers, body: &body }.send(emulator.port())
    };
    let version = ("Version", "2010-05-08");
    iam(&[("Action", "CreateUser"), version, ("UserName", &user)])?;
    let document = ("PolicyDocument", policy);
    iam(&[("Action", "PutUserPolicy"), version, ("UserName", &user), ("PolicyName", "inline"), document])?;
    let answer = iam(&[("Action", "CreateAccessKey"), version, ("UserName", &user)])?;
    let between = |name: &str| {
        let (_, after) = answer.split_once(&format!("<{name}>"))?;
        after.split_once('<').map(|(text, _)| text.to_owned())
    };
    let found = between("AccessKeyId").zip(between("SecretAccessKey"));
    let (id, secret) =
        found.ok_or_else(|| Error::failed("making an access key", "there is none in the answer"))?;
    Ok(Login::AccessKey(id, secret))
}

/// moto counts the requests that it lets through without asking who sent them.
pub(super) fn enforce(port: u16, enforce: bool) -> Result<(), Error> {
    let body = if enforce { "0" } else { "inf" };
    Request { method: "POST", path: "/moto-api/reset-auth", headers: "", body }.send(port).map(drop)
}

fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// What the service says of the key behind an alias.
fn target(service: &KeyService, name: &str) -> Result<Value, Error> {
    Ok(service.call("DescribeKey", "", &json!({ "KeyId": alias(name) }))?["KeyMetadata"].take())
}

fn make(service: &KeyService, wanted: &Value) -> Result<String, Error> {
    let answer = service.call("CreateKey", "", wanted)?;
    text(&answer, "/KeyMetadata/KeyId").map(str::to_owned)
}

fn alias(name: &str) -> String {
    format!("alias/{name}")
}
