import java.io.File;
import org.apache.activemq.broker.BrokerService;
import org.apache.activemq.broker.region.policy.PolicyEntry;
import org.apache.activemq.broker.region.policy.PolicyMap;
import org.apache.activemq.store.kahadb.KahaDBPersistenceAdapter;

/**
 * An ActiveMQ on this machine that keeps its messages in a folder (KahaDB), until it is stopped.
 *
 * <p>Arguments: port, folder, and {@code marks} or {@code forgets}: whether the mark of a message that was delivered
 * before outlives the server. What activemq.xml says with
 * {@code <policyEntry queue=">" persistJMSRedelivered="true"/>}; without it, ActiveMQ keeps the mark in memory only.
 */
public final class ActiveMqServer {
    public static void main(String[] args) throws Exception {
        KahaDBPersistenceAdapter store = new KahaDBPersistenceAdapter();
        store.setDirectory(new File(args[1], "kahadb"));
        PolicyEntry each = new PolicyEntry();
        each.setQueue(">");
        each.setPersistJMSRedelivered(args[2].equals("marks"));
        PolicyMap policies = new PolicyMap();
        policies.setDefaultEntry(each);
        BrokerService server = new BrokerService();
        server.setBrokerName("queues");
        server.setUseJmx(false);
        server.setDataDirectoryFile(new File(args[1]));
        server.setPersistenceAdapter(store);
        server.setDestinationPolicy(policies);
        server.addConnector("tcp://127.0.0.1:" + args[0]);
        server.start();
        server.waitUntilStopped();
    }
}
