import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Types;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.UUID;
import javax.sql.DataSource;

/** What trips with JDBC, each tried: the page in docs/order-systems/ quotes what this prints. */
public final class Trips {
    static final DataSource DATABASE = Shop.database(System.getenv("DATABASE_URL"));

    interface Binding {
        void to(PreparedStatement statement) throws SQLException;
    }

    static String enqueue(Connection connection, String order, String more, Binding binding) throws SQLException {
        String statement = "select created from capture.enqueue(provider => 'afterpay', order_id => '%1$s', payment_id => '100200300',"
            + " capture_ref => '%1$s', currency => 'USD', %2$s)";
        try (PreparedStatement prepared = connection.prepareStatement(statement.formatted(order, more))) {
            binding.to(prepared);
            prepared.executeQuery();
            return "taken";
        }
    }

    static void trip(String what, Shop.Work<Object> tried) {
        try {
            System.out.println(what + ": " + Shop.inTransaction(DATABASE, tried));
        } catch (SQLException error) {
            System.out.printf("%s: %s%n  %s%n", what, error.getSQLState(), error.getMessage().lines().findFirst().orElse(""));
        }
    }

    static String refusedAndCaught(Connection connection, String order, boolean savepoint) throws SQLException {
        Shop.update(connection, "insert into shop_orders values (?, 1, 'USD')", order);
        Savepoint before = savepoint ? connection.setSavepoint() : null;
        try {
            return enqueue(connection, order, "amount_minor => ?", s -> s.setLong(1, -1));
        } catch (SQLException refusal) {
            if (savepoint) {
                connection.rollback(before);
            }
            return "no error";
        }
    }

    static String ordersLeft(Connection connection, String order) throws SQLException {
        return Shop.text(connection, "select count(*) from shop_orders where id = '" + order + "'");
    }

    public static void main(String[] arguments) {
        trip("setDouble for amount_minor", c -> enqueue(c, "t-1", "amount_minor => ?", s -> s.setDouble(1, 1999)));
        trip("setLong for amount_minor", c -> enqueue(c, "t-2", "amount_minor => ?", s -> s.setLong(1, 1999)));
        trip("new BigDecimal(19.99 * 100)", c -> enqueue(c, "t-3", "amount_minor => ?", s -> s.setBigDecimal(1, new BigDecimal(19.99 * 100))));
        trip("setString for details", c -> enqueue(c, "t-4", "amount_minor => 1999, details => ?", s -> s.setString(1, "{}")));
        trip("and with a cast", c -> enqueue(c, "t-5", "amount_minor => 1999, details => cast(? as jsonb)", s -> s.setString(1, "{}")));
        trip("setString for id", c -> enqueue(c, "t-6", "amount_minor => 1999, id => ?", s -> s.setString(1, UUID.randomUUID().toString())));
        trip("setObject(UUID) for id", c -> enqueue(c, "t-7", "amount_minor => 1999, id => ?", s -> s.setObject(1, UUID.randomUUID())));
        trip("setNull(VARCHAR) for authorized_minor", c -> enqueue(c, "t-8", "amount_minor => 1999, authorized_minor => ?", s -> s.setNull(1, Types.VARCHAR)));
        trip("setNull(NUMERIC) for authorized_minor", c -> enqueue(c, "t-9", "amount_minor => 1999, authorized_minor => ?", s -> s.setNull(1, Types.NUMERIC)));
        trip("setObject(Instant) for not_before", c -> enqueue(c, "t-10", "amount_minor => 1999, not_before => ?", s -> s.setObject(1, Instant.now())));
        trip("setObject(OffsetDateTime) for not_before",
            c -> enqueue(c, "t-11", "amount_minor => 1999, not_before => ?", s -> s.setObject(1, Instant.now().atOffset(ZoneOffset.UTC))));
        trip("one JSON document", c -> {
            try (PreparedStatement prepared = c.prepareStatement("select created from capture.enqueue_json(?)")) {
                prepared.setString(1, "{\"provider\": \"afterpay\", \"order_id\": \"t-12\", \"payment_id\": \"100200300\","
                    + " \"capture_ref\": \"t-12\", \"amount_minor\": 1999, \"currency\": \"USD\"}");
                prepared.executeQuery();
                return "taken";
            }
        });
        trip("setString for details in a plain INSERT", c -> {
            try (PreparedStatement prepared = c.prepareStatement("insert into capture.intents"
                    + " (provider, order_id, payment_id, capture_ref, amount_minor, currency, details)"
                    + " values ('afterpay', 't-13', '100200300', 't-13', 1999, 'USD', ?)")) {
                prepared.setString(1, "{}");
                return prepared.executeUpdate();
            }
        });
        trip("goes on after a refusal", c -> {
            refusedAndCaught(c, "t-14", false);
            return Shop.text(c, "select 1");
        });
        trip("a refusal that is swallowed", c -> refusedAndCaught(c, "t-15", false));
        trip("orders left", c -> ordersLeft(c, "t-15"));
        trip("and with a savepoint", c -> refusedAndCaught(c, "t-16", true));
        trip("orders left", c -> ordersLeft(c, "t-16"));
        trip("repeats under repeatable read", c -> {
            c.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
            Shop.text(c, "select 1");
            Shop.inTransaction(DATABASE, other -> enqueue(other, "t-17", "amount_minor => ?", s -> s.setLong(1, 1999)));
            return enqueue(c, "t-17", "amount_minor => ?", s -> s.setLong(1, 1999));
        });
    }
}
