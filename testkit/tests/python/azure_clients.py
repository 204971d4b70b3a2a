"""Microsoft's clients of Key Vault; see vendor_clients.py."""

import json
import time
import unittest

import vendor_clients as running
from azure.core.credentials import AccessToken
from azure.core.exceptions import (
    ClientAuthenticationError,
    DecodeError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.pipeline.policies import RetryPolicy
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient, EncryptionAlgorithm, KeyWrapAlgorithm
from azure.keyvault.secrets import SecretClient
from vendor_clients import unique_name


class Token:
    """Hands out the token that the fake accepts, and remembers for what it was asked."""

    def __init__(self):
        self.scopes = []

    def get_token(self, *scopes, **_):
        self.scopes.extend(scopes)
        return AccessToken(running.clouds.token, int(time.time()) + 3600)


def azure_options():
    # The fake is not *.vault.azure.net, which the challenge names.
    return {
        "verify_challenge_resource": False,
        "connection_verify": running.clouds.authority,
        "retry_policy": RetryPolicy.no_retries(),
    }


class AzureKeys(unittest.TestCase):
    def setUp(self):
        self.credential = Token()
        self.client = KeyClient(running.clouds.azure, self.credential, **azure_options())

    def crypto(self, key):
        return CryptographyClient(key, self.credential, **azure_options())

    def test_the_challenge_is_answered_once(self):
        name = unique_name()
        self.client.create_rsa_key(name, size=2048)
        self.client.get_key(name)
        self.assertEqual(self.credential.scopes[0], "https://vault.azure.net/.default")

    def test_a_key_is_created_and_described(self):
        name = unique_name()
        made = self.client.create_rsa_key(name, size=3072, tags={"app": "zk"})
        self.assertEqual(len(made.key.n), 384)
        self.assertTrue(made.id.startswith(f"{running.clouds.azure}/keys/{name}/"))
        found = self.client.get_key(name)
        self.assertEqual((found.id, found.key.n, found.key.e), (made.id, made.key.n, b"\1\0\1"))
        self.assertEqual((found.properties.tags, found.properties.enabled), ({"app": "zk"}, True))
        self.assertLess(abs(found.properties.created_on.timestamp() - time.time()), 300)
        self.assertEqual(found.properties.recoverable_days, 90)
        self.assertIn(name, [k.name for k in self.client.list_properties_of_keys()])
        with self.assertRaises(ResourceNotFoundError) as caught:
            self.client.get_key("none")
        self.assertEqual(caught.exception.error.code, "KeyNotFound")

    def test_wrap_and_unwrap_here_and_in_the_service(self):
        key = self.client.create_rsa_key(unique_name(), size=2048)
        crypto = self.crypto(key)
        # With the public key at hand the client wraps by itself.
        wrapped = crypto.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"key")
        unwrapped = crypto.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped.encrypted_key)
        self.assertEqual((unwrapped.key, unwrapped.key_id), (b"key", key.id))
        # Without permission to read the key it asks the service.
        running.clouds.order("azure", operation="GET keys", fault="Denied")
        remote = self.crypto(key.id)
        wrapped = remote.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"key")
        self.assertEqual(wrapped.key_id, key.id)
        self.assertEqual(crypto.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped.encrypted_key).key, b"key")
        with self.assertRaises(HttpResponseError) as caught:
            crypto.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped.encrypted_key[:-1] + b"\0")
        self.assertEqual(caught.exception.status_code, 400)
        sealed = crypto.encrypt(EncryptionAlgorithm.rsa_oaep, b"data")
        self.assertEqual(crypto.decrypt(EncryptionAlgorithm.rsa_oaep, sealed.ciphertext).plaintext, b"data")

    def test_versions(self):
        name = unique_name()
        first = self.client.create_rsa_key(name, size=2048)
        wrapped = self.crypto(first).wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"key").encrypted_key
        second = self.client.rotate_key(name)
        self.assertNotEqual(first.properties.version, second.properties.version)
        self.assertEqual(self.client.get_key(name).id, second.id)
        listed = [k.version for k in self.client.list_properties_of_key_versions(name)]
        self.assertEqual(listed, sorted([first.properties.version, second.properties.version]))
        self.assertEqual(self.crypto(first).unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped).key, b"key")
        with self.assertRaises(HttpResponseError):
            self.crypto(second).unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped)

    def test_a_disabled_key_does_not_unwrap(self):
        key = self.client.create_rsa_key(unique_name(), size=2048)
        crypto = self.crypto(key)
        wrapped = crypto.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"key").encrypted_key
        disabled = self.client.update_key_properties(key.name, enabled=False)
        self.assertFalse(disabled.properties.enabled)
        with self.assertRaises(HttpResponseError) as caught:
            crypto.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped)
        self.assertEqual(caught.exception.status_code, 403)
        self.assertEqual(caught.exception.error.innererror["code"], "KeyDisabled")
        self.client.update_key_properties(key.name, enabled=True)
        self.assertEqual(crypto.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped).key, b"key")

    def test_operations_that_the_key_is_not_for(self):
        key = self.client.create_rsa_key(unique_name(), size=2048, key_operations=["wrapKey"])
        running.clouds.order("azure", operation="GET keys", fault="Denied")
        with self.assertRaises(HttpResponseError) as caught:
            self.crypto(key.id).unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, bytes(256))
        self.assertEqual(caught.exception.status_code, 403)

    def test_deleted_keys_come_back(self):
        key = self.client.create_rsa_key(unique_name(), size=2048)
        self.client.begin_delete_key(key.name).wait()
        with self.assertRaises(ResourceNotFoundError):
            self.client.get_key(key.name)
        self.assertIn(key.name, [k.name for k in self.client.list_deleted_keys()])
        self.client.begin_recover_deleted_key(key.name).wait()
        self.assertEqual(self.client.get_key(key.name).id, key.id)

    def test_faults_look_like_the_service_s(self):
        name = unique_name()
        self.client.create_rsa_key(name, size=2048)
        for fault, error, status in [
            ("Throttled", HttpResponseError, 429),
            ("Failing", HttpResponseError, 503),
            ("Denied", HttpResponseError, 403),
        ]:
            running.clouds.order("azure", operation="GET keys", fault=fault)
            with self.assertRaises(error) as caught:
                self.client.get_key(name)
            self.assertEqual(caught.exception.status_code, status)
        for fault, error in [("WrongContentType", json.JSONDecodeError), ("TruncatedJson", DecodeError)]:
            running.clouds.order("azure", operation="GET keys", fault=fault)
            with self.assertRaises(error):
                self.client.get_key(name)
        running.clouds.order("azure", operation="GET keys", times=2, fault="ExpiredToken")
        with self.assertRaises(ClientAuthenticationError):
            self.client.get_key(name)
        for fault in ["Cut", "CutAnswer"]:
            running.clouds.order("azure", operation="GET keys", fault=fault)
            with self.assertRaises((ServiceRequestError, ServiceResponseError, HttpResponseError)):
                self.client.get_key(name)
        # A client that may retry waits as long as it is told.
        running.clouds.order("azure", operation="GET keys", fault="Throttled")
        patient = KeyClient(running.clouds.azure, self.credential, **{**azure_options(), "retry_policy": RetryPolicy()})
        started = time.monotonic()
        self.assertEqual(patient.get_key(name).name, name)
        self.assertGreaterEqual(time.monotonic() - started, 1)

    def test_a_token_that_ended_is_replaced(self):
        name = unique_name()
        self.client.create_rsa_key(name, size=2048)
        running.clouds.token = "another"
        running.clouds.order("azure", token=running.clouds.token)
        self.client = KeyClient(running.clouds.azure, self.credential, **azure_options())
        self.assertEqual(self.client.get_key(name).name, name)


class AzureSecrets(unittest.TestCase):
    def setUp(self):
        self.client = SecretClient(running.clouds.azure, Token(), **azure_options())

    def test_versions_are_set_and_read(self):
        name = unique_name()
        first = self.client.set_secret(name, "one", tags={"t": "1"}, content_type="text/plain")
        second = self.client.set_secret(name, "two", tags={"t": "2"})
        self.assertNotEqual(first.properties.version, second.properties.version)
        found = self.client.get_secret(name)
        self.assertEqual((found.value, found.properties.tags), ("two", {"t": "2"}))
        found = self.client.get_secret(name, first.properties.version)
        self.assertEqual((found.value, found.properties.content_type), ("one", "text/plain"))
        listed = {p.version: p.tags for p in self.client.list_properties_of_secret_versions(name)}
        self.assertEqual(listed, {first.properties.version: {"t": "1"}, second.properties.version: {"t": "2"}})
        self.assertIn(name, [p.name for p in self.client.list_properties_of_secrets()])

    def test_a_disabled_version_cannot_be_read(self):
        name = unique_name()
        secret = self.client.set_secret(name, "one")
        self.client.update_secret_properties(name, secret.properties.version, enabled=False)
        with self.assertRaises(HttpResponseError) as caught:
            self.client.get_secret(name)
        self.assertEqual(caught.exception.error.innererror["code"], "SecretDisabled")
        self.client.update_secret_properties(name, secret.properties.version, enabled=True, tags={"t": "1"})
        found = self.client.get_secret(name)
        self.assertEqual((found.value, found.properties.tags), ("one", {"t": "1"}))

    def test_deletion_recovery_and_purge(self):
        name = unique_name()
        self.client.set_secret(name, "one")
        # The result is there before the deletion is done.
        deleting = self.client.begin_delete_secret(name)
        deleted = deleting.result()
        deleting.wait()
        self.assertEqual((deleted.name, hasattr(deleted, "value")), (name, False))
        self.assertEqual((deleted.scheduled_purge_date - deleted.deleted_date).days, 90)
        with self.assertRaises(ResourceNotFoundError):
            self.client.get_secret(name)
        with self.assertRaises(ResourceExistsError) as caught:
            self.client.set_secret(name, "two")
        self.assertEqual(caught.exception.error.innererror["code"], "ObjectIsDeletedButRecoverable")
        self.client.begin_recover_deleted_secret(name).wait()
        self.assertEqual(self.client.get_secret(name).value, "one")
        self.client.begin_delete_secret(name).wait()
        self.client.purge_deleted_secret(name)
        with self.assertRaises(ResourceNotFoundError):
            self.client.get_deleted_secret(name)
        self.assertEqual(self.client.set_secret(name, "two").value, "two")

    def test_deleted_secrets_end_after_their_time(self):
        name = unique_name()
        self.client.set_secret(name, "one")
        self.client.begin_delete_secret(name).wait()
        running.clouds.order("azure", advance_seconds=91 * 24 * 3600)
        with self.assertRaises(ResourceNotFoundError):
            self.client.get_deleted_secret(name)

    def test_limits_and_names(self):
        with self.assertRaises(HttpResponseError):
            self.client.set_secret(unique_name(), "x" * 25601)
        with self.assertRaises(HttpResponseError):
            self.client.set_secret("under_score", "x")

    def test_lists_have_pages(self):
        names = {self.client.set_secret(unique_name(), "x").name for _ in range(30)}
        self.assertLessEqual(names, {p.name for p in self.client.list_properties_of_secrets()})
