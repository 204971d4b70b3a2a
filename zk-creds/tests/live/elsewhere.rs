//! A login belongs to the whole server: what it does in other databases ends too.

use zk_creds::ErrorKind;

use super::shop::{Shop, assert_kind};

#[tokio::test]
async fn what_a_login_left_in_another_database_is_settled_there() {
    for mut shop in Shop::on_every_version().await {
        let second = shop.database.cluster().database().await.unwrap();
        let admin: String = shop.admin.query_one("SELECT current_user::text", &[]).await.unwrap().get(0);
        let owner = format!("ALTER DATABASE {} OWNER TO {admin}", second.name());
        shop.database.execute(&owner).await.unwrap();
        let mut there = second.connect_as(&admin, "admin").await.unwrap();
        let credential = shop.issue().await;
        let login = credential.lease().login.clone();
        there
            .batch_execute(&format!("CREATE TABLE lent (v text); GRANT SELECT ON lent TO {login}"))
            .await
            .unwrap();
        there.batch_execute(&format!("CREATE SCHEMA own AUTHORIZATION {login}")).await.unwrap_err();
        there
            .batch_execute(&format!("CREATE SCHEMA own; GRANT CREATE, USAGE ON SCHEMA own TO {login}"))
            .await
            .unwrap();
        let endpoint = zk_creds::postgres::Endpoint { database: second.name().to_owned(), ..shop.endpoint() };
        let session = zk_creds::postgres::Login::of(endpoint, &credential).connect().await.unwrap();
        session.batch_execute("CREATE TABLE own.kept (v text); SELECT * FROM lent").await.unwrap();

        let open = shop.issuer.settle_elsewhere(&mut there, credential.lease()).await;
        assert_kind(open, ErrorKind::Blocked);
        let blocked = assert_kind(shop.revoke(&credential).await, ErrorKind::Blocked);
        assert!(blocked.to_string().contains(second.name()), "{blocked}");
        assert!(session.batch_execute("SELECT 1").await.is_err(), "sessions end in every database");
        assert_kind(shop.connect(&credential).await, ErrorKind::Denied);

        // Nobody else's role is settled by naming it in a lease.
        let mut forged = credential.lease().clone();
        forged.login.pop();
        forged.login.push('1');
        there.batch_execute(&format!("CREATE ROLE {}", forged.login)).await.unwrap();
        assert_kind(shop.issuer.settle_elsewhere(&mut there, &forged).await, ErrorKind::Invalid);
        forged.login.clone_from(&shop.role);
        assert_kind(shop.issuer.settle_elsewhere(&mut there, &forged).await, ErrorKind::Invalid);

        shop.issuer.settle_elsewhere(&mut there, credential.lease()).await.unwrap();
        shop.issuer.settle_elsewhere(&mut there, credential.lease()).await.unwrap();
        shop.revoke(&credential).await.unwrap();
        let row = there
            .query_one("SELECT tableowner::text FROM pg_tables WHERE tablename = 'kept'", &[])
            .await
            .unwrap();
        assert_eq!(row.get::<_, String>(0), format!("zk_{}_estate", shop.solution()));
    }
}

/// Code that it left there waits for a person, as in the first database.
#[tokio::test]
async fn code_in_another_database_is_not_handed_on() {
    let mut shop = Shop::create().await;
    let second = shop.database.cluster().database().await.unwrap();
    let admin: String = shop.admin.query_one("SELECT current_user::text", &[]).await.unwrap().get(0);
    shop.database.execute(&format!("ALTER DATABASE {} OWNER TO {admin}", second.name())).await.unwrap();
    let mut there = second.connect_as(&admin, "admin").await.unwrap();
    let credential = shop.issue().await;
    let login = &credential.lease().login;
    there
        .batch_execute(&format!("CREATE SCHEMA own; GRANT CREATE, USAGE ON SCHEMA own TO {login}"))
        .await
        .unwrap();
    let endpoint = zk_creds::postgres::Endpoint { database: second.name().to_owned(), ..shop.endpoint() };
    let session = zk_creds::postgres::Login::of(endpoint, &credential).connect().await.unwrap();
    session
        .batch_execute("CREATE FUNCTION own.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'")
        .await
        .unwrap();
    assert_kind(shop.revoke(&credential).await, ErrorKind::Blocked);
    let blocked = shop.issuer.settle_elsewhere(&mut there, credential.lease()).await;
    let blocked = assert_kind(blocked, ErrorKind::Blocked);
    assert!(blocked.to_string().contains("function own.f()"), "{blocked}");
    second.execute("DROP FUNCTION own.f()").await.unwrap();
    shop.issuer.settle_elsewhere(&mut there, credential.lease()).await.unwrap();
    shop.revoke(&credential).await.unwrap();
}
