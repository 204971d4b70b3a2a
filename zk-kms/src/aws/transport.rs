//! How requests travel to AWS, whatever the environment and the profile of the process say.

use aws_sdk_kms::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextRef},
    },
    error::BoxError,
};
use aws_smithy_http_client::{
    Builder, ConnectorBuilder,
    proxy::ProxyConfig,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_types::body::SdkBody;
use http_body_util::Limited;

use super::address::check_address;

/// Far above any answer of the calls that we make.
const MAX_ANSWER: usize = 256 * 1024;

/// The SDK's own HTTP client, without the proxies that it takes from the environment.
///
/// SECURITY: such a proxy would read what is sent in clear to the loopback address, data keys among it.
pub(super) fn without_proxy() -> aws_sdk_kms::config::SharedHttpClient {
    Builder::new().build_with_connector_fn(|settings, components| {
        let tls = Provider::Rustls(CryptoMode::AwsLc);
        let mut connector =
            ConnectorBuilder::default().tls_provider(tls).proxy_config(ProxyConfig::disabled());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.build()
    })
}

/// Sends nothing in clear to another machine, and reads no more of an answer than it can sensibly have.
#[derive(Debug)]
pub(super) struct Bounds;

impl Intercept for Bounds {
    fn name(&self) -> &'static str {
        "Bounds"
    }

    /// SECURITY: `AWS_ENDPOINT_URL_KMS` and the profile can name an endpoint too, which nobody else looks at.
    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let uri = context.request().uri();
        let host = uri.find("://").map_or(0, |at| at + 3);
        let end = uri.get(host..).and_then(|rest| rest.find(['/', '?'])).map_or(uri.len(), |at| host + at);
        Ok(check_address(uri.get(..end).unwrap_or(uri))?)
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response_mut().take_body();
        *context.response_mut().body_mut() = SdkBody::from_body_1_x(Limited::new(body, MAX_ANSWER));
        Ok(())
    }
}
