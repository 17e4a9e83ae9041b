import com.datastax.oss.driver.api.core.CqlSession;
import com.datastax.oss.driver.api.core.cql.Row;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;

/**
 * Runs the statements of the standard input, each ended by a semicolon and a line break, and prints the rows.
 *
 * <p>Arguments: port on this machine, user. The password is in the variable CQLPASSWORD.
 */
public final class Cql {
    public static void main(String[] args) throws Exception {
        String text = new String(System.in.readAllBytes(), StandardCharsets.UTF_8) + "\n";
        InetSocketAddress server = new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0]));
        try (CqlSession session = CqlSession.builder().addContactPoint(server).withLocalDatacenter("datacenter1")
                .withAuthCredentials(args[1], System.getenv("CQLPASSWORD")).build()) {
            for (String each : text.split(";\\s*\n"))
                if (!each.isBlank())
                    for (Row row : session.execute(each)) System.out.println(row.getFormattedContents());
        }
    }
}
