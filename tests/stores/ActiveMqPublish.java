import jakarta.jms.BytesMessage;
import jakarta.jms.Connection;
import jakarta.jms.MapMessage;
import jakarta.jms.MessageProducer;
import jakarta.jms.Session;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import org.apache.activemq.ActiveMQConnectionFactory;

/**
 * Publish to an ActiveMQ queue, from standard input, one message per line, all in one transaction: a text, or the bytes
 * that {@code 0x...} gives in hexadecimal digits, or a map of one name behind {@code map:}.
 */
public final class ActiveMqPublish {
    public static void main(String[] args) throws Exception {
        try (Connection connection = new ActiveMQConnectionFactory(args[0]).createConnection()) {
            Session session = connection.createSession(true, Session.SESSION_TRANSACTED);
            MessageProducer producer = session.createProducer(session.createQueue(args[1]));
            BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                if (line.startsWith("0x")) {
                    BytesMessage message = session.createBytesMessage();
                    message.writeBytes(HexFormat.of().parseHex(line.substring(2)));
                    producer.send(message);
                } else if (line.startsWith("map:")) {
                    MapMessage message = session.createMapMessage();
                    message.setString("name", line.substring(4));
                    producer.send(message);
                } else {
                    producer.send(session.createTextMessage(line));
                }
            }
            session.commit();
        }
    }
}
