"""Google's clients of KMS and Secret Manager; see vendor_clients.py."""

import contextlib
import time
import unittest

import google_crc32c
import vendor_clients as running
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from google.api_core import exceptions as google_errors
from google.api_core.client_options import ClientOptions
from google.auth.credentials import Credentials
from google.cloud import kms_v1, secretmanager_v1
from google.protobuf import field_mask_pb2
from vendor_clients import unique_name


def crc(data):
    return google_crc32c.value(data)


class Login(Credentials):
    """Credentials whose token is any token: the fake asks for none."""

    def refresh(self, request):
        self.token = "token"


class Google(unittest.TestCase):
    @contextlib.contextmanager
    def refused(self, status):
        """The client raises the exception of the HTTP code, and the body names this google.rpc.Code."""
        codes = {
            "INVALID_ARGUMENT": google_errors.BadRequest,
            "FAILED_PRECONDITION": google_errors.BadRequest,
            "UNAUTHENTICATED": google_errors.Unauthorized,
            "PERMISSION_DENIED": google_errors.Forbidden,
            "NOT_FOUND": google_errors.NotFound,
            "ALREADY_EXISTS": google_errors.Conflict,
            "RESOURCE_EXHAUSTED": google_errors.TooManyRequests,
            "UNAVAILABLE": google_errors.ServiceUnavailable,
        }
        with self.assertRaises(codes[status]) as caught:
            yield
        self.assertEqual(caught.exception.response.json()["error"]["status"], status)


# --- Google Cloud KMS -----------------------------------------------------------------------------------------------


class GoogleKms(Google):
    def setUp(self):
        options = ClientOptions(api_endpoint=running.clouds.google)
        self.client = kms_v1.KeyManagementServiceClient(
            transport="rest", credentials=Login(), client_options=options
        )
        self.ring = self.client.create_key_ring(
            parent="projects/p/locations/global", key_ring_id=unique_name(), key_ring={}
        ).name

    def make(self, purpose="ENCRYPT_DECRYPT", algorithm="GOOGLE_SYMMETRIC_ENCRYPTION", **more):
        key = {"purpose": purpose, "version_template": {"algorithm": algorithm}, **more}
        return self.client.create_crypto_key(
            parent=self.ring, crypto_key_id=unique_name(), crypto_key=key
        )

    def encrypt(self, name, plaintext, aad):
        return self.client.encrypt(
            request={
                "name": name,
                "plaintext": plaintext,
                "plaintext_crc32c": crc(plaintext),
                "additional_authenticated_data": aad,
                "additional_authenticated_data_crc32c": crc(aad),
            },
            retry=None,
        )

    def decrypt(self, name, ciphertext, aad):
        return self.client.decrypt(
            request={
                "name": name,
                "ciphertext": ciphertext,
                "ciphertext_crc32c": crc(ciphertext),
                "additional_authenticated_data": aad,
                "additional_authenticated_data_crc32c": crc(aad),
            },
            retry=None,
        )

    def set_state(self, version, state):
        return self.client.update_crypto_key_version(
            crypto_key_version={"name": version, "state": state},
            update_mask=field_mask_pb2.FieldMask(paths=["state"]),
        )

    def test_a_key_is_created_once_with_what_was_asked_for(self):
        key = self.make(labels={"app": "zk"}, rotation_period={"seconds": 7776000}, next_rotation_time={"seconds": 1900000000})
        self.assertEqual(key.purpose, kms_v1.CryptoKey.CryptoKeyPurpose.ENCRYPT_DECRYPT)
        self.assertEqual(key.primary.state, kms_v1.CryptoKeyVersion.CryptoKeyVersionState.ENABLED)
        self.assertEqual(key.primary.name, key.name + "/cryptoKeyVersions/1")
        self.assertEqual(key.rotation_period.days, 90)
        self.assertEqual(dict(key.labels), {"app": "zk"})
        self.assertLess(abs(key.create_time.timestamp() - time.time()), 300)
        self.assertEqual(self.client.get_crypto_key(name=key.name), key)
        self.assertEqual([k.name for k in self.client.list_crypto_keys(parent=self.ring)], [key.name])
        with self.refused("ALREADY_EXISTS"):
            self.client.create_crypto_key(
                parent=self.ring,
                crypto_key_id=key.name.rsplit("/", 1)[1],
                crypto_key={"purpose": "ENCRYPT_DECRYPT"},
            )
        changed = self.client.update_crypto_key(
            crypto_key={"name": key.name, "labels": {"app": "other"}, "rotation_period": {"seconds": 1}},
            update_mask=field_mask_pb2.FieldMask(paths=["labels"]),
        )
        self.assertEqual((dict(changed.labels), changed.rotation_period.days), ({"app": "other"}, 90))

    def test_encrypt_and_decrypt_with_checksums_both_ways(self):
        name = self.make().name
        sealed = self.encrypt(name, b"key", b"context")
        self.assertTrue(sealed.verified_plaintext_crc32c)
        self.assertTrue(sealed.verified_additional_authenticated_data_crc32c)
        self.assertEqual(sealed.ciphertext_crc32c, crc(sealed.ciphertext))
        self.assertEqual(sealed.name, name + "/cryptoKeyVersions/1")
        opened = self.decrypt(name, sealed.ciphertext, b"context")
        self.assertEqual((opened.plaintext, opened.used_primary), (b"key", True))
        self.assertEqual(opened.plaintext_crc32c, crc(b"key"))
        self.assertNotEqual(self.encrypt(name, b"key", b"context").ciphertext, sealed.ciphertext)
        without = self.client.encrypt(name=name, plaintext=b"key")
        self.assertFalse(without.verified_plaintext_crc32c)

    def test_what_does_not_open(self):
        name, other = self.make().name, self.make().name
        ciphertext = self.encrypt(name, b"key", b"context").ciphertext
        flipped = bytes([*ciphertext[:-1], ciphertext[-1] ^ 1])
        for key, sealed, aad in [
            (name, ciphertext, b"other"),
            (name, flipped, b"context"),
            (name, ciphertext[:10], b"context"),
            (other, ciphertext, b"context"),
        ]:
            with self.refused("INVALID_ARGUMENT"):
                self.decrypt(key, sealed, aad)
        with self.refused("INVALID_ARGUMENT"):
            self.client.encrypt(request={"name": name, "plaintext": b"a", "plaintext_crc32c": crc(b"b")})
        with self.refused("INVALID_ARGUMENT"):
            self.client.encrypt(name=name, plaintext=bytes(65537))
        with self.refused("NOT_FOUND"):
            self.encrypt(self.ring + "/cryptoKeys/none", b"", b"")

    def test_versions_and_their_states(self):
        name = self.make().name
        old = self.encrypt(name, b"key", b"").ciphertext
        second = self.client.create_crypto_key_version(parent=name, crypto_key_version={})
        self.assertEqual(self.client.get_crypto_key(name=name).primary.name, name + "/cryptoKeyVersions/1")
        key = self.client.update_crypto_key_primary_version(name=name, crypto_key_version_id="2")
        self.assertEqual(key.primary.name, second.name)
        self.assertEqual(self.encrypt(name, b"key", b"").name, second.name)
        opened = self.decrypt(name, old, b"")
        self.assertEqual((opened.plaintext, opened.used_primary), (b"key", False))
        first = name + "/cryptoKeyVersions/1"
        states = kms_v1.CryptoKeyVersion.CryptoKeyVersionState
        self.assertEqual(self.set_state(first, states.DISABLED).state, states.DISABLED)
        with self.refused("FAILED_PRECONDITION"):
            self.decrypt(name, old, b"")
        self.set_state(first, states.ENABLED)
        self.assertEqual(self.decrypt(name, old, b"").plaintext, b"key")
        self.assertEqual(self.client.destroy_crypto_key_version(name=first).state, states.DESTROY_SCHEDULED)
        with self.refused("FAILED_PRECONDITION"):
            self.decrypt(name, old, b"")
        self.assertEqual(self.client.restore_crypto_key_version(name=first).state, states.DISABLED)
        self.client.destroy_crypto_key_version(name=first)
        running.clouds.order("google", advance_seconds=31 * 24 * 3600)
        found = {v.name: v.state for v in self.client.list_crypto_key_versions(parent=name)}
        self.assertEqual(found, {first: states.DESTROYED, second.name: states.ENABLED})

    def test_rsa_with_a_public_key_that_anybody_can_use(self):
        for bits in (2048, 3072):
            name = self.make("ASYMMETRIC_DECRYPT", f"RSA_DECRYPT_OAEP_{bits}_SHA256").name + "/cryptoKeyVersions/1"
            public = self.client.get_public_key(name=name)
            self.assertEqual(public.pem_crc32c, crc(public.pem.encode()))
            self.assertEqual((public.name, public.algorithm.name), (name, f"RSA_DECRYPT_OAEP_{bits}_SHA256"))
            key = serialization.load_pem_public_key(public.pem.encode())
            self.assertEqual(key.key_size, bits)
            oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
            ciphertext = key.encrypt(b"key", oaep)
            request = {"name": name, "ciphertext": ciphertext, "ciphertext_crc32c": crc(ciphertext)}
            opened = self.client.asymmetric_decrypt(request=request)
            self.assertEqual((opened.plaintext, opened.verified_ciphertext_crc32c), (b"key", True))
            self.assertEqual(opened.plaintext_crc32c, crc(b"key"))
            with self.refused("INVALID_ARGUMENT"):
                self.client.asymmetric_decrypt(name=name, ciphertext=ciphertext[:-1] + b"\0")
        with self.refused("FAILED_PRECONDITION"):
            self.encrypt(name.split("/cryptoKeyVersions")[0], b"key", b"")

    def test_faults_look_like_the_service_s(self):
        name = self.make().name
        for fault, status in [
            ("Throttled", "RESOURCE_EXHAUSTED"),
            ("Failing", "UNAVAILABLE"),
            ("Denied", "PERMISSION_DENIED"),
            ("ExpiredToken", "UNAUTHENTICATED"),
        ]:
            # The client asks for a new token and tries again, twice.
            running.clouds.order("google", operation="encrypt", times=3 if fault == "ExpiredToken" else 1, fault=fault)
            with self.refused(status):
                self.encrypt(name, b"key", b"")
        running.clouds.order("google", operation="encrypt", fault="WrongChecksum")
        answer = self.encrypt(name, b"key", b"")
        self.assertNotEqual(answer.ciphertext_crc32c, crc(answer.ciphertext))
        running.clouds.order("google", operation="encrypt", fault="Unverified")
        self.assertFalse(self.encrypt(name, b"key", b"").verified_plaintext_crc32c)
        for fault in ["Cut", "CutAnswer", "TruncatedJson", "WrongContentType"]:
            running.clouds.order("google", operation="encrypt", fault=fault)
            with self.assertRaises(Exception):
                self.encrypt(name, b"key", b"")
        self.encrypt(name, b"key", b"")


# --- Google Secret Manager ------------------------------------------------------------------------------------------


class GoogleSecrets(Google):
    def setUp(self):
        options = ClientOptions(api_endpoint=running.clouds.google)
        self.client = secretmanager_v1.SecretManagerServiceClient(
            transport="rest", credentials=Login(), client_options=options
        )

    def make(self):
        return self.client.create_secret(
            parent="projects/p", secret_id=unique_name(), secret={"replication": {"automatic": {}}}
        )

    def add(self, name, data):
        return self.client.add_secret_version(parent=name, payload={"data": data, "data_crc32c": crc(data)})

    def read(self, version):
        return self.client.access_secret_version(name=version).payload

    def test_versions_are_added_read_and_ended(self):
        name = self.make().name
        first, second = self.add(name, b"one"), self.add(name, b"two")
        self.assertEqual(first.name, name + "/versions/1")
        self.assertTrue(first.client_specified_payload_checksum)
        payload = self.read(name + "/versions/latest")
        self.assertEqual((payload.data, payload.data_crc32c), (b"two", crc(b"two")))
        states = secretmanager_v1.SecretVersion.State
        self.assertEqual(self.client.disable_secret_version(name=second.name).state, states.DISABLED)
        # `latest` is the newest version, not the newest that can be read.
        with self.refused("FAILED_PRECONDITION"):
            self.read(name + "/versions/latest")
        self.assertEqual(self.client.enable_secret_version(name=second.name).state, states.ENABLED)
        self.assertEqual(self.read(second.name).data, b"two")
        self.assertEqual(self.client.destroy_secret_version(name=first.name).state, states.DESTROYED)
        with self.refused("FAILED_PRECONDITION"):
            self.client.enable_secret_version(name=first.name)
        listed = [(v.name, v.state) for v in self.client.list_secret_versions(parent=name)]
        self.assertEqual(listed, [(second.name, states.ENABLED), (first.name, states.DESTROYED)])

    def test_etags_keep_two_writers_apart(self):
        secret = self.make()
        self.add(secret.name, b"one")

        def relabel(etag, label):
            changed = {"name": secret.name, "etag": etag, "labels": {"l": label}}
            return self.client.update_secret(
                secret=changed, update_mask=field_mask_pb2.FieldMask(paths=["labels"])
            )

        changed = relabel(secret.etag, "a")
        self.assertNotEqual(changed.etag, secret.etag)
        with self.refused("FAILED_PRECONDITION"):
            relabel(secret.etag, "b")
        self.assertEqual(dict(self.client.get_secret(name=secret.name).labels), {"l": "a"})
        with self.refused("FAILED_PRECONDITION"):
            self.client.delete_secret(request={"name": secret.name, "etag": secret.etag})
        version = self.client.get_secret_version(name=secret.name + "/versions/1")
        self.client.disable_secret_version(request={"name": version.name, "etag": version.etag})
        with self.refused("FAILED_PRECONDITION"):
            self.client.enable_secret_version(request={"name": version.name, "etag": version.etag})

    def test_aliases_name_versions(self):
        secret = self.make()
        self.add(secret.name, b"one")
        self.add(secret.name, b"two")
        mask = field_mask_pb2.FieldMask(paths=["version_aliases"])
        changed = self.client.update_secret(
            secret={"name": secret.name, "version_aliases": {"current": 1}}, update_mask=mask
        )
        self.assertEqual(dict(changed.version_aliases), {"current": 1})
        answer = self.client.access_secret_version(name=secret.name + "/versions/current")
        self.assertEqual((answer.payload.data, answer.name), (b"one", secret.name + "/versions/1"))
        with self.refused("INVALID_ARGUMENT"):
            self.client.update_secret(
                secret={"name": secret.name, "version_aliases": {"current": 9}}, update_mask=mask
            )

    def test_what_is_not_there_or_not_allowed(self):
        name = self.make().name
        with self.refused("ALREADY_EXISTS"):
            self.client.create_secret(
                parent="projects/p", secret_id=name.rsplit("/", 1)[1], secret={"replication": {"automatic": {}}}
            )
        with self.refused("NOT_FOUND"):
            self.read(name + "/versions/latest")
        with self.refused("INVALID_ARGUMENT"):
            self.client.add_secret_version(parent=name, payload={"data": b"a", "data_crc32c": 1})
        with self.refused("INVALID_ARGUMENT"):
            self.add(name, bytes(65537))
        self.client.delete_secret(name=name)
        with self.refused("NOT_FOUND"):
            self.client.get_secret(name=name)

    def test_lists_have_pages(self):
        names = sorted(self.make().name for _ in range(5))
        listed = self.client.list_secrets(request={"parent": "projects/p", "page_size": 2})
        self.assertLessEqual(set(names), {s.name for s in listed})
