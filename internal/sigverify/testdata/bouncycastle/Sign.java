// Signs a document with BouncyCastle in many forms, for the verifier to judge.
// Arguments: output directory, document, CA certificate, then for each key
// "name certificate key" (DER, PKCS #8).
import java.io.*;
import java.nio.file.*;
import java.security.*;
import java.security.cert.*;
import java.security.spec.*;
import java.util.*;
import org.bouncycastle.asn1.*;
import org.bouncycastle.asn1.cms.*;
import org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers;
import org.bouncycastle.cert.*;
import org.bouncycastle.cert.jcajce.*;
import org.bouncycastle.cms.*;
import org.bouncycastle.cms.jcajce.*;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.operator.*;
import org.bouncycastle.operator.jcajce.*;
import org.bouncycastle.util.CollectionStore;

public class Sign {
    static Path out;
    static byte[] doc;
    static X509CertificateHolder ca;

    record Signer(X509CertificateHolder cert, PrivateKey key, String algorithm) {}

    static Signer load(String cert, String key, String algorithm) throws Exception {
        X509CertificateHolder c = new X509CertificateHolder(Files.readAllBytes(Path.of(cert)));
        String type = algorithm.endsWith("ECDSA") ? "EC" : algorithm.equals("Ed25519") ? "Ed25519" : "RSA";
        PrivateKey k = KeyFactory.getInstance(type, "BC").generatePrivate(new PKCS8EncodedKeySpec(Files.readAllBytes(Path.of(key))));
        return new Signer(c, k, algorithm);
    }

    static SignerInfoGenerator info(Signer s, boolean attributes) throws Exception {
        DigestCalculatorProvider digests = new JcaDigestCalculatorProviderBuilder().setProvider("BC").build();
        ContentSigner signer = new JcaContentSignerBuilder(s.algorithm).setProvider("BC").build(s.key);
        JcaSignerInfoGeneratorBuilder b = new JcaSignerInfoGeneratorBuilder(digests);
        b.setDirectSignature(!attributes);
        return b.build(signer, new JcaX509CertificateConverter().setProvider("BC").getCertificate(s.cert));
    }

    static CMSSignedDataGenerator generator(boolean attributes, Signer... all) throws Exception {
        CMSSignedDataGenerator g = new CMSSignedDataGenerator();
        List<X509CertificateHolder> certs = new ArrayList<>(List.of(ca));
        for (Signer s : all) {
            g.addSignerInfoGenerator(info(s, attributes));
            certs.add(s.cert);
        }
        g.addCertificates(new CollectionStore<>(certs));
        return g;
    }

    static void write(String name, byte[] der) throws IOException {
        Files.write(out.resolve(name), der);
    }

    static CMSTypedData content() { return new CMSProcessableByteArray(doc); }

    public static void main(String[] args) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        out = Path.of(args[0]);
        doc = Files.readAllBytes(Path.of(args[1]));
        ca = new X509CertificateHolder(Files.readAllBytes(Path.of(args[2])));
        Map<String, Signer> signers = new LinkedHashMap<>();
        for (int i = 3; i + 3 < args.length; i += 4)
            signers.put(args[i], load(args[i + 2], args[i + 3], args[i + 1]));
        for (Map.Entry<String, Signer> e : signers.entrySet()) {
            Signer s = e.getValue();
            write(e.getKey() + "-detached", generator(true, s).generate(content(), false).getEncoded());
            write(e.getKey() + "-attached", generator(true, s).generate(content(), true).getEncoded());
            write(e.getKey() + "-der", generator(true, s).generate(content(), true).toASN1Structure().getEncoded(ASN1Encoding.DER));
        }
        Signer rsa = signers.get("rsa"), ec = signers.get("ec");
        write("bare", generator(false, rsa).generate(content(), true).getEncoded());
        write("both", generator(true, rsa, ec).generate(content(), false).getEncoded());

        CMSSignedDataStreamGenerator stream = new CMSSignedDataStreamGenerator();
        stream.addSignerInfoGenerator(info(rsa, true));
        stream.addCertificates(new CollectionStore<>(List.of(ca, rsa.cert)));
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        stream.setBufferSize(7);
        try (OutputStream o = stream.open(bytes, true)) { o.write(doc); }
        write("stream", bytes.toByteArray());

        CMSSignedData one = generator(true, rsa).generate(content(), false);
        SignerInformation first = one.getSignerInfos().getSigners().iterator().next();
        SignerInformationStore counters = generator(true, ec).generateCounterSigners(first);
        SignerInformation countered = SignerInformation.addCounterSigners(first, counters);
        CMSSignedData with = CMSSignedData.replaceSigners(one, new SignerInformationStore(countered));
        with = CMSSignedData.replaceCertificatesAndCRLs(with, new CollectionStore<>(List.of(ca, rsa.cert, ec.cert)), null, null);
        write("countered", with.getEncoded());

        CMSSignedDataGenerator none = new CMSSignedDataGenerator();
        none.addCertificates(new CollectionStore<>(List.of(ca, rsa.cert)));
        write("certs-only", none.generate(new CMSAbsentContent(), false).getEncoded());
    }
}
