import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.Security;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.List;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cms.CMSProcessableByteArray;
import org.bouncycastle.cms.CMSSignedData;
import org.bouncycastle.cms.CMSSignedDataGenerator;
import org.bouncycastle.cms.CMSSignedDataStreamGenerator;
import org.bouncycastle.cms.SignerInformation;
import org.bouncycastle.cms.SignerInformationStore;
import org.bouncycastle.cms.SignerInfoGenerator;
import org.bouncycastle.cms.jcajce.JcaSignerInfoGeneratorBuilder;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.operator.jcajce.JcaDigestCalculatorProviderBuilder;
import org.bouncycastle.util.CollectionStore;

/**
 * Others' signatures for us to read. Arguments: a directory with key.der (PKCS #8),
 * cert.der and doc; the signature algorithm; the key's algorithm. Written beside:
 * attached.ber and detached.ber (indefinite lengths), countersigned.p7s.
 */
public class MakeSignatures {
    public static void main(String[] args) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        for (int i = 0; i + 2 < args.length; i += 3) {
            make(Path.of(args[i]), args[i + 1], args[i + 2]);
        }
    }

    static void make(Path dir, String signature, String algorithm) throws Exception {
        PrivateKey key = KeyFactory.getInstance(algorithm, "BC").generatePrivate(
            new PKCS8EncodedKeySpec(Files.readAllBytes(dir.resolve("key.der"))));
        X509CertificateHolder cert = new X509CertificateHolder(Files.readAllBytes(dir.resolve("cert.der")));
        byte[] document = Files.readAllBytes(dir.resolve("doc"));
        for (boolean attached : new boolean[] {true, false}) {
            CMSSignedDataStreamGenerator stream = new CMSSignedDataStreamGenerator();
            stream.setBufferSize(7);
            stream.addSignerInfoGenerator(signer(key, cert, signature));
            stream.addCertificates(new CollectionStore<>(List.of(cert)));
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            try (OutputStream content = stream.open(out, attached)) {
                content.write(document);
            }
            Files.write(dir.resolve(attached ? "attached.ber" : "detached.ber"), out.toByteArray());
        }
        CMSSignedDataGenerator generator = new CMSSignedDataGenerator();
        generator.addSignerInfoGenerator(signer(key, cert, signature));
        generator.addCertificates(new CollectionStore<>(List.of(cert)));
        CMSSignedData signed = generator.generate(new CMSProcessableByteArray(document), false);
        CMSSignedDataGenerator counter = new CMSSignedDataGenerator();
        counter.addSignerInfoGenerator(signer(key, cert, signature));
        SignerInformation first = signed.getSignerInfos().getSigners().iterator().next();
        SignerInformation countered = SignerInformation.addCounterSigners(first, counter.generateCounterSigners(first));
        signed = CMSSignedData.replaceSigners(signed, new SignerInformationStore(countered));
        Files.write(dir.resolve("countersigned.p7s"), signed.getEncoded());
    }

    static SignerInfoGenerator signer(PrivateKey key, X509CertificateHolder cert, String signature) throws Exception {
        return new JcaSignerInfoGeneratorBuilder(new JcaDigestCalculatorProviderBuilder().setProvider("BC").build())
            .build(new JcaContentSignerBuilder(signature).setProvider("BC").build(key), cert);
    }
}
