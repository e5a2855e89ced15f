import java.nio.file.Files;
import java.nio.file.Path;
import java.security.Security;
import java.util.Collection;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cms.CMSProcessableByteArray;
import org.bouncycastle.cms.CMSSignedData;
import org.bouncycastle.cms.SignerInformation;
import org.bouncycastle.cms.jcajce.JcaSimpleSignerInfoVerifierBuilder;
import org.bouncycastle.jce.provider.BouncyCastleProvider;

/**
 * Verifies signers and their countersignatures. Arguments in pairs: signature file,
 * document file ("-": the content is inside). One line each: "good", the number of
 * signers and of countersignatures, or "bad" and why.
 */
public class VerifyCountersignatures {
    public static void main(String[] args) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        for (int i = 0; i + 1 < args.length; i += 2) {
            try {
                byte[] signature = Files.readAllBytes(Path.of(args[i]));
                CMSSignedData cms = args[i + 1].equals("-") ? new CMSSignedData(signature)
                    : new CMSSignedData(new CMSProcessableByteArray(Files.readAllBytes(Path.of(args[i + 1]))), signature);
                int counters = 0;
                for (SignerInformation signer : cms.getSignerInfos().getSigners()) {
                    verify(cms, signer);
                    for (SignerInformation counter : signer.getCounterSignatures().getSigners()) {
                        verify(cms, counter);
                        counters++;
                    }
                }
                System.out.println("good " + cms.getSignerInfos().size() + " " + counters);
            } catch (Exception e) {
                System.out.println("bad " + e);
            }
        }
    }

    static void verify(CMSSignedData cms, SignerInformation signer) throws Exception {
        @SuppressWarnings("unchecked")
        Collection<X509CertificateHolder> found = cms.getCertificates().getMatches(signer.getSID());
        if (!signer.verify(new JcaSimpleSignerInfoVerifierBuilder().setProvider("BC").build(found.iterator().next()))) {
            throw new Exception("signature");
        }
    }
}
