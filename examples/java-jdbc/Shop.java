import java.math.BigDecimal;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import javax.sql.DataSource;
import org.postgresql.ds.PGSimpleDataSource;
import org.postgresql.util.PSQLException;

/** An order system on JDBC: the order and its capture in one transaction, and the feed that says what became of it. */
public final class Shop {
    record Capture(UUID id, boolean created) {}

    record Event(String cursor, String type, String order) {}

    interface Work<T> {
        T in(Connection connection) throws SQLException;
    }

    static final String ENQUEUE = """
        select id, created from capture.enqueue(
            provider => 'afterpay', order_id => ?, payment_id => ?, capture_ref => ?,
            amount_minor => ?, currency => ?, details => cast(? as jsonb))""";

    static <T> T inTransaction(DataSource database, Work<T> work) throws SQLException {
        try (Connection connection = database.getConnection()) {
            connection.setAutoCommit(false);
            try {
                T result = work.in(connection);
                connection.commit();
                return result;
            } catch (SQLException | RuntimeException error) {
                try {
                    connection.rollback();
                } catch (SQLException lost) {
                    error.addSuppressed(lost);
                }
                throw error;
            }
        }
    }

    /** Writes the order and asks for its capture, in the caller's transaction. The same order again changes nothing. */
    static Capture placeOrder(Connection connection, String order, String payment, BigDecimal amountMinor, String currency) throws SQLException {
        try (PreparedStatement insert = connection.prepareStatement(
                "insert into shop_orders (id, total_minor, currency) values (?, ?, ?) on conflict (id) do nothing")) {
            insert.setString(1, order);
            insert.setBigDecimal(2, amountMinor);
            insert.setString(3, currency);
            insert.executeUpdate();
        }
        try (PreparedStatement enqueue = connection.prepareStatement(ENQUEUE)) {
            enqueue.setString(1, order);
            enqueue.setString(2, payment);
            enqueue.setString(3, order + "-1");
            enqueue.setBigDecimal(4, amountMinor);
            enqueue.setString(5, currency);
            enqueue.setString(6, "{\"description\": \"an order of the example\"}");
            try (ResultSet row = enqueue.executeQuery()) {
                row.next();
                return new Capture(row.getObject("id", UUID.class), row.getBoolean("created"));
            }
        }
    }

    /** Handles the next events and moves the cursor in the same transaction: each event is handled once. */
    static List<Event> followFeed(Connection connection) throws SQLException {
        update(connection, "insert into shop_feed values ('orders', '') on conflict do nothing");
        // Locked: of two readers one waits.
        String cursor = text(connection, "select cursor from shop_feed where reader = 'orders' for update");
        List<Event> events = new ArrayList<>();
        try (PreparedStatement after = connection.prepareStatement("select * from capture.events_after(?, 100)")) {
            after.setString(1, cursor);
            try (ResultSet row = after.executeQuery()) {
                while (row.next()) {
                    events.add(new Event(row.getString("cursor"), row.getString("type"), row.getString("order_id")));
                }
            }
        }
        for (Event event : events) {
            if (event.type().equals("capture.captured")) {
                update(connection, "update shop_orders set state = 'paid' where id = ?", event.order());
            }
        }
        if (!events.isEmpty()) {
            update(connection, "update shop_feed set cursor = ? where reader = 'orders'", events.get(events.size() - 1).cursor());
        }
        return events;
    }

    static void update(Connection connection, String statement, String... given) throws SQLException {
        try (PreparedStatement prepared = connection.prepareStatement(statement)) {
            for (int nth = 0; nth < given.length; nth++) {
                prepared.setString(nth + 1, given[nth]);
            }
            prepared.executeUpdate();
        }
    }

    static String text(Connection connection, String query) throws SQLException {
        try (PreparedStatement prepared = connection.prepareStatement(query); ResultSet row = prepared.executeQuery()) {
            row.next();
            return row.getString(1);
        }
    }

    /** What a log should have of a refusal: the constraint is its name, the hint says what to do. */
    static void refused(String order, SQLException error) throws SQLException {
        if (!(error instanceof PSQLException refusal) || refusal.getServerErrorMessage() == null) {
            throw error;
        }
        var said = refusal.getServerErrorMessage();
        System.out.printf("%s refused: %s %s (%s)%n", order, said.getSQLState(), said.getConstraint(), said.getColumn());
        System.out.printf("  %s%n  hint: %s%n", said.getMessage(), said.getHint());
    }

    /** The driver takes no user in its URL. */
    static PGSimpleDataSource database(String url) {
        URI at = URI.create(url);
        String[] login = at.getUserInfo().split(":", 2);
        PGSimpleDataSource database = new PGSimpleDataSource();
        database.setUrl("jdbc:postgresql://" + at.getHost() + ":" + at.getPort() + at.getPath());
        database.setUser(login[0]);
        database.setPassword(login[1]);
        return database;
    }

    public static void main(String[] arguments) throws Exception {
        DataSource database = database(System.getenv("DATABASE_URL"));
        String schema = Files.readString(Path.of("schema.sql"));
        inTransaction(database, connection -> connection.createStatement().execute(schema));

        BigDecimal total = new BigDecimal(4990);
        Capture placed = inTransaction(database, connection -> placeOrder(connection, "o-1001", "100101234567", total, "USD"));
        System.out.printf("o-1001 placed: capture %s is asked for%n", placed.id());
        Capture again = inTransaction(database, connection -> placeOrder(connection, "o-1001", "100101234567", total, "USD"));
        System.out.printf("o-1001 placed again: capture %s is %s%n", again.id(), again.created() ? "another" : "the same");

        try {
            inTransaction(database, connection -> {
                placeOrder(connection, "o-1002", "100101234568", new BigDecimal(1500), "USD");
                throw new IllegalStateException("out of stock");
            });
        } catch (IllegalStateException outOfStock) {
            String orders = inTransaction(database, connection -> text(connection, "select count(*) from shop_orders where id = 'o-1002'"));
            String captures = inTransaction(database, connection -> text(connection, "select count(*) from capture.status where order_id = 'o-1002'"));
            System.out.printf("o-1002 rolled back: %s orders, %s captures asked for%n", orders, captures);
        }

        try {
            inTransaction(database, connection -> placeOrder(connection, "o-1003", "100101234569", new BigDecimal("19.99"), "USD"));
        } catch (SQLException error) {
            refused("o-1003", error);
        }
        try {
            inTransaction(database, connection -> placeOrder(connection, "o-1001", "100101234567", new BigDecimal(5990), "USD"));
        } catch (SQLException error) {
            refused("o-1001", error);
        }

        long patience = System.nanoTime() + 20_000_000_000L;
        String paid = "select state from shop_orders where id = 'o-1001'";
        while (!inTransaction(database, connection -> text(connection, paid)).equals("paid")) {
            for (Event event : inTransaction(database, Shop::followFeed)) {
                System.out.printf("feed: %s %s%n", event.order(), event.type().replace("capture.", ""));
            }
            if (System.nanoTime() > patience) {
                throw new IllegalStateException("o-1001 is not captured after 20 s: does a worker run?");
            }
            Thread.sleep(100);
        }
        System.out.println(inTransaction(database, Shop::followFeed).isEmpty() ? "feed: nothing new" : "feed: there is more");

        String status = "select concat(state, ': ', captured_minor, ' ', currency) from capture.status where order_id = 'o-1001'";
        System.out.println("o-1001 is " + inTransaction(database, connection -> text(connection, status)));
    }
}
